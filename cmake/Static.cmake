# vibe_make_static(TARGET): links a program of ours statically, so that it runs in a guest of any libc. A build with
# sanitizers stays as it is: they need the shared C library.
function(vibe_make_static target)
  if(VIBE_SANITIZE)
    return()
  endif()
  set_target_properties(${target} PROPERTIES
    RULE_LAUNCH_LINK "python3 ${CMAKE_SOURCE_DIR}/cmake/static_link.py"
    LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/static_link.py)
endfunction()

# spdlog and fmt as headers only: Debian has them as shared libraries and as headers, but not as archives.
if(NOT TARGET vibe_spdlog)
  add_library(vibe_spdlog INTERFACE)
  target_compile_definitions(vibe_spdlog INTERFACE SPDLOG_FMT_EXTERNAL FMT_HEADER_ONLY)
  target_link_libraries(vibe_spdlog INTERFACE Threads::Threads)
endif()
