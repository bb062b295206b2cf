find_package(OpenSSL REQUIRED COMPONENTS Crypto)
