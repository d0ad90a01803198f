# The toolchain of tools/check-macos: Clang and LLD on Linux, with the headers of an Apple SDK (VIBE_SDK) and, in
# VIBE_HEADERS, links to this system's headers of the libraries that the code uses. VIBE_ARCH is arm64 or x86_64.
# What comes out is never run: what the libraries would define stays open.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_VERSION 21)  # macOS 12
set(CMAKE_SYSTEM_PROCESSOR ${VIBE_ARCH})
set(CMAKE_OSX_SYSROOT ${VIBE_SDK} CACHE PATH "")
set(CMAKE_OSX_DEPLOYMENT_TARGET 12.0 CACHE STRING "")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES VIBE_SDK VIBE_HEADERS VIBE_ARCH)

find_program(VIBE_CLANG NAMES clang++-14 clang++ REQUIRED)
# The order is the point: Apple's C++ library, Apple's C headers (the sysroot), and only then the libraries' headers.
set(CMAKE_CXX_COMPILER ${VIBE_CLANG})
set(CMAKE_CXX_COMPILER_TARGET ${VIBE_ARCH}-apple-macos12.0)
set(CMAKE_CXX_FLAGS_INIT
  "-stdlib=libc++ -nostdinc++ -isystem ${VIBE_SDK}/usr/include/c++/v1 -idirafter ${VIBE_HEADERS}")
set(CMAKE_CXX_LINK_EXECUTABLE
  "${CMAKE_CURRENT_LIST_DIR}/link ${VIBE_ARCH} ${VIBE_SDK} <TARGET> <OBJECTS> <LINK_LIBRARIES>")
set(CMAKE_AR llvm-ar-14)
set(CMAKE_RANLIB llvm-ranlib-14)
set(CMAKE_INSTALL_NAME_TOOL llvm-install-name-tool-14)

# Where this system's packages are: their configurations say what links to what.
set(CMAKE_LIBRARY_ARCHITECTURE ${VIBE_HOST_LIBRARIES})
