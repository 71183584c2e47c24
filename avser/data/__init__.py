"""Many clips: manifests, splits, leak audits, the cache, datasets and augmentation."""
