# containerd's API for C++, from the .proto files of Debian's golang-github-containerd-containerd-dev. protoc for
# C++ cannot read what they hold for Go only (gogoproto, fieldpath): a copy without it is made in the build folder.
set(GO_SOURCES /usr/share/gocode/src)
set(API github.com/containerd/containerd)
set(SERVICE_PROTOS
  ${API}/api/services/containers/v1/containers.proto
  ${API}/api/services/content/v1/content.proto
  ${API}/api/services/diff/v1/diff.proto
  ${API}/api/services/events/v1/events.proto
  ${API}/api/services/images/v1/images.proto
  ${API}/api/services/leases/v1/leases.proto
  ${API}/api/services/namespaces/v1/namespace.proto
  ${API}/api/services/snapshots/v1/snapshots.proto
  ${API}/api/services/tasks/v1/tasks.proto
  ${API}/api/services/version/v1/version.proto)
set(MESSAGE_PROTOS
  ${API}/api/events/task.proto
  ${API}/api/types/descriptor.proto
  ${API}/api/types/metrics.proto
  ${API}/api/types/mount.proto
  ${API}/api/types/task/task.proto
  ${API}/runtime/v2/runc/options/oci.proto)

if(NOT EXISTS ${GO_SOURCES}/${API}/api)
  message(FATAL_ERROR "containerd's .proto files are missing: install golang-github-containerd-containerd-dev")
endif()

set(COPIES ${CMAKE_CURRENT_BINARY_DIR}/protos)
set(GENERATED ${CMAKE_CURRENT_BINARY_DIR}/generated)
file(MAKE_DIRECTORY ${GENERATED})

set(COPIED)
foreach(proto ${SERVICE_PROTOS} ${MESSAGE_PROTOS})
  get_filename_component(folder ${COPIES}/${proto} DIRECTORY)
  add_custom_command(
    OUTPUT ${COPIES}/${proto}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
    COMMAND sed
      -e "/^import weak/d"
      -e "/option (gogoproto\\./d"
      -e "/option (containerd\\.plugin\\./d"
      -e "s/[[:space:]]*\\[(gogoproto\\.[^]]*\\]//"
      ${GO_SOURCES}/${proto} > ${COPIES}/${proto}
    DEPENDS ${GO_SOURCES}/${proto}
    VERBATIM)
  list(APPEND COPIED ${COPIES}/${proto})
endforeach()

set(GENERATED_SOURCES)
foreach(proto ${SERVICE_PROTOS} ${MESSAGE_PROTOS})
  string(REGEX REPLACE "\\.proto$" "" base ${GENERATED}/${proto})
  set(outputs ${base}.pb.cc)
  set(headers ${base}.pb.h)
  set(plugin)
  if(proto IN_LIST SERVICE_PROTOS)
    list(APPEND outputs ${base}.grpc.pb.cc)
    list(APPEND headers ${base}.grpc.pb.h)
    set(plugin --grpc_out=${GENERATED}
      --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>)
  endif()
  add_custom_command(
    OUTPUT ${outputs} ${headers}
    COMMAND protobuf::protoc -I ${COPIES} -I /usr/include --cpp_out=${GENERATED} ${plugin} ${proto}
    DEPENDS ${COPIED}
    VERBATIM)
  list(APPEND GENERATED_SOURCES ${outputs})
endforeach()

# Machine-written code: none of our warnings, and no time spent on optimizing what waits for a socket.
add_library(containerd_api STATIC ${GENERATED_SOURCES})
target_compile_options(containerd_api PRIVATE -w -O1)
target_include_directories(containerd_api SYSTEM PUBLIC ${GENERATED})
target_link_libraries(containerd_api PUBLIC gRPC::grpc++ protobuf::libprotobuf)
