"""From the words of a command line to checked points: composed, named, and looked at before anything is made."""
