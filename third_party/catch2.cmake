find_package(Catch2 3 REQUIRED)
include(Catch)
