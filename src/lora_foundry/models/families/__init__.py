"""Families of bases, a folder each, with the files that :data:`FILES` names; others beside them are the family's own.

``__init__.py`` says what the family is, without torch (:class:`lora_foundry.config.families.FamilyChoice`).
``base.py`` finds a base's files and reads them: ``open_files``, ``file_problems`` and ``layers_of``, as
:mod:`lora_foundry.models.opening` describes them. ``sizes.py`` knows a base by its configs alone: ``open_sizes``.
A family that cannot be trained yet has no ``base.py``.
"""

FILES = ("__init__.py", "base.py", "sizes.py")
"""What the folder of each family has."""
