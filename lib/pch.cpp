// Exists so that one target owns the precompiled header that the LibTorch modules share.
