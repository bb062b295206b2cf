# LibTorch: a LibTorch named by CMAKE_PREFIX_PATH or Torch_DIR comes first; otherwise the wheel that
# scripts/bootstrap.sh put into <build>/venv.
find_package(Torch REQUIRED)
