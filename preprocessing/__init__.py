"""From raw corpora to manifests: one module a corpus, each a door of its own (`python -m preprocessing.<corpus>`)."""
