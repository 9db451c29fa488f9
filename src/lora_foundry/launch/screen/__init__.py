"""What people see: live lines, plans, tables, the state of sweeps."""
