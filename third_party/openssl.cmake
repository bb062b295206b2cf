# OpenSSL's libcrypto, for SHA-256. Found only, never downloaded: a security library belongs to the system.
find_package(OpenSSL 1.1.1 QUIET COMPONENTS Crypto)
if(NOT OPENSSL_FOUND)
  message(FATAL_ERROR
      "OpenSSL's headers and libcrypto were not found.\n"
      "Install them (Debian: libssl-dev, Fedora: openssl-devel, Homebrew: openssl@3), or name yours: "
      "cmake -DOPENSSL_ROOT_DIR=<prefix>")
endif()
