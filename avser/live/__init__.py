"""An answer while somebody speaks: the causal model fed in chunks, from a camera or from a file at its own pace."""
