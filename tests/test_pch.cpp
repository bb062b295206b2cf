// Exists so that the tests share precompiled headers: one with LibTorch, one without.
