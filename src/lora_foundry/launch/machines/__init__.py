"""Devices and cores, whose turn it is on them, and the engines that start workers there."""
