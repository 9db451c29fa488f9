"""The configuration: a frozen schema, its limits, and the parser that reports all errors at once.

Other rooms use of it:

- ``allowance``: what this process may take of the machine's cores and memory;
- ``besides``: what a job computes beside its steps, when that is, and how much;
- ``best``: which adapter is best;
- ``called``: how this program is called, so that what is printed as a command can be typed where its reader is;
- ``choices``: choices that are files;
- ``collector``: Python's garbage collector, kept out of importing and ending;
- ``components``: how the layers of a base of several networks are called;
- ``constraints``: limits of single fields, written in their annotations;
- ``digest``: one number for everything of a configuration that decides the adapter;
- ``doing``: what a training does, and how people are told what takes the most memory of it;
- ``elsewhere``: what other trainers call things;
- ``ending``: how a command ends;
- ``errors``: why a sweep cannot start or go on;
- ``families``: what a configuration has to know of a family of bases, without the libraries that read one;
- ``files``: writing files that are either whole or not there;
- ``given``: whether somebody said a value, or it is only the default;
- ``giving_way``: what of a job may change when memory runs out, and where that ends;
- ``hints``: the schema's annotations, with the choices that are files as the words that they are;
- ``keys``: what the schema says of a key;
- ``kinds``: what the members of a pack have to have in common, and jobs of one kind;
- ``launcher``: what the launcher's configuration says (``hydra.launcher.*``);
- ``length``: steps of a job, those that warm it up, and rows of a step;
- ``logged``: the names of what is logged of a job;
- ``longer``: how long a job trains, where that was changed after it had begun;
- ``made_with``: ``made_with.json`` in a job's folder;
- ``mending``: what is to be done about a card that cannot be used;
- ``parse``: from a composed mapping to a :class:`~lora_foundry.config.schema.JobConfig`, with every problem at once;
- ``paths``: where relative paths of a configuration lead;
- ``precision``: what ``trainer.precision=auto`` stands for;
- ``quoting``: commands that are printed;
- ``rules``: rules that hold between fields;
- ``schema``: the whole configuration of one job, as frozen values;
- ``schema_denoising``: the part of the schema that bases have which take noise away from pictures
  (:mod:`lora_foundry.config.schema`);
- ``schema_results``: the part of the schema that says how a job is judged and where its results go
  (:mod:`lora_foundry.config.schema`);
- ``search``: what the sweeper's configuration says (``hydra.sweeper.*``);
- ``stored``: reading what lies on disk;
- ``streams``: everything random is a stateless function of (seed, purpose, index);
- ``surroundings``: what a process finds around it and must not obey;
- ``swept``: what was swept, and what people call it;
- ``tensorfile``: the header of a safetensors file;
- ``unicode``: texts that no file and no tokenizer takes;
- ``usual``: what a training on a base usually takes, where nobody says otherwise;
- ``version``: which code this is;
- ``warned``: what a person is warned of.
"""

from lora_foundry.config.parse import ConfigError, parse, parse_stored
from lora_foundry.config.schema import JobConfig

__all__ = ["ConfigError", "JobConfig", "parse", "parse_stored"]
