"""The `avser` command, a module for each kind of question."""
