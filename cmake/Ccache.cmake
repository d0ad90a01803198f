# Compile through ccache when it is installed: the generated gRPC code alone takes minutes cold.
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
