#include "supervisor_machine.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/subprocess.h"
#include "base/unix_socket.h"
#include "rpc/status.h"
#include "test_image.h"

namespace vibe::testing {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// As vibe.v1.Supervisor's long calls have it: progress, then one project.
template <typename Response>
absl::StatusOr<v1::Project> ReadProject(std::unique_ptr<grpc::ClientReader<Response>> reader,
                                        std::vector<v1::Progress>* progress) {
  Response response;
  v1::Project project;
  while (reader->Read(&response)) {
    if (response.has_project()) {
      project = response.project();
    } else if (progress != nullptr) {
      progress->push_back(response.progress());
    }
  }
  VIBE_RETURN_IF_ERROR(rpc::FromGrpc(reader->Finish()));
  return project;
}

template <typename Response>
absl::StatusOr<Response> ReadLast(std::unique_ptr<grpc::ClientReader<Response>> reader) {
  Response last;
  for (Response response; reader->Read(&response);) {
    last = response;
  }
  VIBE_RETURN_IF_ERROR(rpc::FromGrpc(reader->Finish()));
  return last;
}

std::string Names(const fs::path& directory, const std::string& part) {
  std::string names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    if (absl::StrContains(name, part)) {
      absl::StrAppend(&names, name, " ");
    }
  }
  return names;
}

std::string Lines(const std::string& text, const std::string& part) {
  std::string lines;
  for (const auto line : absl::StrSplit(text, '\n')) {
    if (absl::StrContains(line, part)) {
      absl::StrAppend(&lines, line, "\n");
    }
  }
  return lines;
}

}  // namespace

PackageBytes MakePackage(const std::map<std::string, std::string>& files) {
  PackageBytes package;
  for (const auto& [path, content] : files) {
    v1::PackageFile* file = package.index.add_files();
    file->set_path(path);
    file->set_size(content.size());
    file->set_sha256(Sha256Raw(content));
    package.bytes += content;
  }
  return package;
}

absl::StatusOr<std::unique_ptr<SupervisorMachine>> SupervisorMachine::Start(
    const ContainerdOptions& options) {
  std::unique_ptr<SupervisorMachine> machine(new SupervisorMachine());
  VIBE_ASSIGN_OR_RETURN(machine->containerd_, ContainerdProcess::Start(options));
  VIBE_RETURN_IF_ERROR(machine->StartSupervisor());
  return machine;
}

SupervisorMachine::~SupervisorMachine() {
  KillSupervisor(SIGKILL);
}

std::string SupervisorMachine::log() const {
  return ReadAll(containerd_->directory() / "supervisor.log");
}

absl::Status SupervisorMachine::StartSupervisor() {
  const fs::path directory = containerd_->directory();
  const fs::path bin = VIBE_TEST_BIN_DIR;
  const std::string socket = (directory / "supervisor.sock").string();
  VIBE_ASSIGN_OR_RETURN(
      pid_, containerd_->Run({(bin / "vibe-supervisor").string(),
                              "--data",
                              (directory / "root/data").string(),
                              "--run",
                              (directory / "run").string(),
                              "--containerd",
                              (directory / "sock").string(),
                              "--runtime",
                              "/usr/bin/crun",
                              "--logger",
                              (bin / "vibe-logger").string(),
                              "--cgroup",
                              containerd_->cgroup(),
                              "--cni",
                              "/usr/lib/cni",
                              "--listen",
                              "unix:" + socket,
                              "--forward",
                              absl::StrCat("unix:", (directory / "forward.sock").string()),
                              "--log-level",
                              "debug"},
                             directory / "supervisor.log"));
  std::string said;
  for (int i = 0; i < 500; ++i) {
    if (auto fd = ConnectUnix(socket); fd.ok()) {
      ::fcntl(fd->get(), F_SETFL, O_NONBLOCK);
      stub_ =
          v1::Supervisor::NewStub(grpc::CreateInsecureChannelFromFd("supervisor", fd->release()));
      grpc::ClientContext context;
      v1::HealthResponse health;
      const grpc::Status status = stub_->Health(&context, {}, &health);
      if (status.ok()) {
        return absl::OkStatus();
      }
      said = status.error_details().empty() ? said : status.error_message();
    }
    if (::waitpid(pid_, nullptr, WNOHANG) != 0) {
      pid_ = -1;
      break;
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  return absl::UnavailableError("vibe-supervisor does not come up: " + said + "\n" + log());
}

void SupervisorMachine::KillSupervisor(int signal) {
  if (pid_ > 0) {
    ::kill(pid_, signal);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
}

absl::StatusOr<UniqueFd> SupervisorMachine::Forward() const {
  return ConnectUnix(containerd_->directory() / "forward.sock");
}

absl::StatusOr<std::string> SupervisorMachine::ImportPayload() {
  const TestImage image = PayloadImage();
  std::map<std::string, std::string> files;
  files["vibe.yaml"] = "kind: vibe.app/v1\n";
  files["images/payload/oci-layout"] = R"({"imageLayoutVersion":"1.0.0"})";
  files["images/payload/index.json"] =
      Json{{"schemaVersion", 2},
           {"manifests",
            {{{"mediaType", image.target.media_type},
              {"digest", image.target.digest},
              {"size", image.target.size},
              {"annotations", {{"org.opencontainers.image.ref.name", "1"}}}}}}}
          .dump();
  for (const auto& [digest, bytes] : image.blobs) {
    files[absl::StrCat("images/payload/blobs/sha256/", digest.substr(7))] = bytes;
  }
  const PackageBytes package = MakePackage(files);
  grpc::ClientContext context;
  const auto stream = stub_->ImportPackage(&context);
  v1::ImportPackageRequest request;
  *request.mutable_index() = package.index;
  v1::ImportPackageResponse response;
  std::string digest;
  if (stream->Write(request) && stream->Read(&response) && response.send_files()) {
    for (size_t at = 0; at < package.bytes.size(); at += 1 << 20) {
      request.set_chunk(package.bytes.substr(at, 1 << 20));
      stream->Write(request);
    }
  }
  stream->WritesDone();
  while (stream->Read(&response)) {
    digest = response.package_digest();
  }
  VIBE_RETURN_IF_ERROR(rpc::FromGrpc(stream->Finish()));
  return digest;
}

absl::StatusOr<v1::Project> SupervisorMachine::Ensure(const std::string& id,
                                                      const std::string& name,
                                                      const std::string& manifest,
                                                      const std::string& package) {
  grpc::ClientContext context;
  v1::EnsureProjectRequest request;
  request.set_id(id);
  request.set_name(name);
  request.set_manifest_json(manifest);
  request.set_package_digest(package);
  request.mutable_grants()->set_expose_ports(true);
  v1::EnsureProjectResponse response;
  VIBE_RETURN_IF_ERROR(rpc::FromGrpc(stub_->EnsureProject(&context, request, &response)));
  return response.project();
}

absl::StatusOr<v1::Project> SupervisorMachine::Open(const std::string& id) {
  grpc::ClientContext context;
  v1::OpenProjectRequest request;
  request.set_id(id);
  return ReadProject(stub_->OpenProject(&context, request), nullptr);
}

absl::StatusOr<v1::Project> SupervisorMachine::StartProject(
    const std::string& id, std::vector<v1::Progress>* progress,
    const std::map<std::string, std::string>& secrets) {
  grpc::ClientContext context;
  v1::StartProjectRequest request;
  request.set_id(id);
  request.mutable_secrets()->insert(secrets.begin(), secrets.end());
  return ReadProject(stub_->StartProject(&context, request), progress);
}

absl::StatusOr<v1::Project> SupervisorMachine::Stop(const std::string& id,
                                                    uint32_t timeout_seconds) {
  grpc::ClientContext context;
  v1::StopProjectRequest request;
  request.set_id(id);
  request.set_timeout_seconds(timeout_seconds);
  return ReadProject(stub_->StopProject(&context, request), nullptr);
}

absl::Status SupervisorMachine::Delete(const std::string& id) {
  grpc::ClientContext context;
  v1::DeleteProjectRuntimeRequest request;
  request.set_id(id);
  request.set_delete_data(true);
  v1::DeleteProjectRuntimeResponse response;
  return rpc::FromGrpc(stub_->DeleteProjectRuntime(&context, request, &response));
}

absl::StatusOr<v1::Snapshot> SupervisorMachine::Save(const v1::SaveSnapshotRequest& request) {
  grpc::ClientContext context;
  VIBE_ASSIGN_OR_RETURN(const auto last,
                        ReadLast<v1::SaveSnapshotResponse>(stub_->SaveSnapshot(&context, request)));
  return last.snapshot();
}

absl::StatusOr<v1::RestoreSnapshotResponse> SupervisorMachine::Restore(
    const v1::RestoreSnapshotRequest& request) {
  grpc::ClientContext context;
  return ReadLast<v1::RestoreSnapshotResponse>(stub_->RestoreSnapshot(&context, request));
}

absl::StatusOr<v1::Project> SupervisorMachine::Get(const std::string& id) {
  grpc::ClientContext context;
  v1::GetProjectStatusRequest request;
  request.set_id(id);
  v1::GetProjectStatusResponse response;
  VIBE_RETURN_IF_ERROR(rpc::FromGrpc(stub_->GetProjectStatus(&context, request, &response)));
  return response.project();
}

absl::StatusOr<std::vector<v1::LogLine>> SupervisorMachine::Logs(const std::string& id,
                                                                 const std::string& service,
                                                                 uint32_t tail) {
  grpc::ClientContext context;
  v1::GetProjectLogsRequest request;
  request.set_id(id);
  request.set_service(service);
  request.set_tail(tail);
  const auto reader = stub_->GetProjectLogs(&context, request);
  std::vector<v1::LogLine> lines;
  v1::GetProjectLogsResponse response;
  while (reader->Read(&response)) {
    lines.insert(lines.end(), response.lines().begin(), response.lines().end());
  }
  VIBE_RETURN_IF_ERROR(rpc::FromGrpc(reader->Finish()));
  return lines;
}

fs::path SupervisorMachine::DataDirectory() const {
  const fs::path root = absl::StrCat("/proc/", containerd_->pid(), "/root");
  return root / containerd_->directory().relative_path() / "root/data";
}

int SupervisorMachine::OpenFiles() const {
  int count = 0;
  for ([[maybe_unused]] const auto& entry :
       fs::directory_iterator(absl::StrCat("/proc/", pid_, "/fd"))) {
    ++count;
  }
  return count;
}

std::map<std::string, std::string> SupervisorMachine::Traces() {
  std::map<std::string, std::string> traces;
  const std::string proc = absl::StrCat("/proc/", containerd_->pid());
  const fs::path root = proc + "/root";
  const fs::path data = root / containerd_->directory().relative_path();
  traces["mounts"] = ReadAll(proc + "/mountinfo");
  // Ids of mounts change; how many there are and where does not.
  std::string places;
  for (const auto line : absl::StrSplit(traces["mounts"], '\n')) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    if (fields.size() > 4) {
      absl::StrAppend(&places, fields[4], "\n");
    }
  }
  traces["mounts"] = places;
  traces["interfaces"] =
      Lines(ReadAll(proc + "/net/dev"), "vibe") + Lines(ReadAll(proc + "/net/dev"), "veth");
  traces["network namespaces"] = Names(root / "run/netns", "vibe");
  std::string cgroups;
  for (const auto& hierarchy : fs::directory_iterator("/sys/fs/cgroup")) {
    absl::StrAppend(&cgroups, Names(hierarchy.path() / containerd_->cgroup().substr(1), "vibe"));
  }
  traces["cgroups"] = cgroups;
  traces["shims"] = absl::StrCat(containerd_->RunningShims());
  traces["blobs"] = absl::StrCat(containerd_->StoredBlobs());
  traces["snapshots"] = absl::StrCat(containerd_->StoredSnapshots());
  containerd::Client client(containerd_->client_options());
  if (const auto namespaces = client.ListNamespaces(); namespaces.ok()) {
    for (const std::string& ns : *namespaces) {
      if (absl::StartsWith(ns, "vibe-")) {
        absl::StrAppend(&traces["namespaces"], ns, " ");
      }
    }
  }
  // Of each namespace that there ever was, containerd itself keeps an empty folder.
  std::error_code error;
  for (const auto& folder :
       fs::directory_iterator(data / "state/io.containerd.runtime.v2.task", error)) {
    absl::StrAppend(&traces["containerd's tasks"], Names(folder.path(), ""));
  }
  for (const char* folder : {"projects", "packages", "logs"}) {
    traces[folder] = Names(data / "root/data" / folder, "");
  }
  for (const char* folder : {"projects", "exec"}) {
    traces[absl::StrCat("run/", folder)] = Names(data / "run" / folder, "");
  }
  const auto rules = RunSubprocess(
      {.args = {"nsenter", absl::StrCat("--net=", proc, "/ns/net"), "nft", "list", "ruleset"},
       .input = "",
       .env = {}});
  traces["firewall"] = rules.ok() ? rules->out : std::string(rules.status().message());
  return traces;
}

}  // namespace vibe::testing
