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
