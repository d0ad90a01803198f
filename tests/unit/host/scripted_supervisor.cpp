#include "scripted_supervisor.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/descriptor.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/unix_socket.h"
#include "manifest/parse.h"
#include "relay/frame.h"
#include "rpc/ports.h"
#include "rpc/status.h"
#include "spdlog/spdlog.h"

namespace vibe::host {
namespace {

using std::chrono::milliseconds;

void SetServices(v1::Project& project, v1::Status status) {
  project.set_status(status);
  for (v1::ServiceStatus& service : *project.mutable_services()) {
    service.set_status(status);
    if (status == v1::STATUS_RUNNING) {
      service.set_container_id(absl::StrCat("c-", service.name()));
      service.mutable_started_at()->set_seconds(1'700'000'000);
    } else {
      service.clear_container_id();
      service.clear_started_at();
    }
  }
}

}  // namespace

void ScriptedSupervisor::OnStart(std::function<absl::Status(grpc::ServerContext&)> script) {
  const std::lock_guard lock(mutex_);
  on_start_ = std::move(script);
}

std::map<std::string, v1::Project> ScriptedSupervisor::projects() const {
  const std::lock_guard lock(mutex_);
  return projects_;
}

void ScriptedSupervisor::Add(const v1::Project& project) {
  const std::lock_guard lock(mutex_);
  projects_[project.id()] = project;
}

void ScriptedSupervisor::Clear() {
  const std::lock_guard lock(mutex_);
  projects_.clear();
  ensured_.clear();
}

void ScriptedSupervisor::SetStatus(const std::string& id, v1::Status status) {
  const std::lock_guard lock(mutex_);
  SetServices(projects_[id], status);
  ++changes_;
}

std::map<std::string, v1::EnsureProjectRequest> ScriptedSupervisor::ensured() const {
  const std::lock_guard lock(mutex_);
  return ensured_;
}

std::string ScriptedSupervisor::uploaded() const {
  const std::lock_guard lock(mutex_);
  return last_upload_;
}

std::vector<v1::SetHostNetworkRequest> ScriptedSupervisor::told() const {
  const std::lock_guard lock(mutex_);
  return told_;
}

std::vector<std::string> ScriptedSupervisor::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

absl::StatusOr<v1::Project> ScriptedSupervisor::Find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = projects_.find(id);
  if (found == projects_.end()) {
    return Error(absl::StatusCode::kNotFound, Reason::kNotFound, "no such project");
  }
  return found->second;
}

grpc::Status ScriptedSupervisor::EnsureProject(Context*, const v1::EnsureProjectRequest* request,
                                               v1::EnsureProjectResponse* response) {
  const std::lock_guard lock(mutex_);
  const auto parsed = manifest::Parse(request->manifest_json());
  for (const auto& [id, other] : projects_) {
    if (id != request->id() && other.name() == request->name()) {
      return rpc::ToGrpc(Error(absl::StatusCode::kAlreadyExists, Reason::kConflict,
                               absl::StrCat("another project is called ", request->name())));
    }
  }
  v1::Project& project = projects_[request->id()];
  v1::EnsureProjectRequest& old = ensured_[request->id()];
  project.set_opened(project.opened() && old.manifest_json() == request->manifest_json() &&
                     old.package_digest() == request->package_digest());
  old = *request;
  const v1::Status status =
      project.status() == v1::STATUS_UNSPECIFIED ? v1::STATUS_STOPPED : project.status();
  project.set_id(request->id());
  project.set_name(request->name());
  project.set_app_id(parsed.manifest->id);
  project.clear_services();
  for (const manifest::Service& service : parsed.manifest->services) {
    v1::ServiceStatus& added = *project.add_services();
    added.set_name(service.name);
    added.set_image(service.image);
    for (const manifest::Port& port : service.ports) {
      v1::ServicePort& exposed = *added.add_ports();
      exposed.set_container_port(port.container);
      exposed.set_protocol(port.protocol == manifest::Protocol::kTcp ? v1::PROTOCOL_TCP
                                                                     : v1::PROTOCOL_UDP);
      exposed.set_expose(request->grants().expose_ports() &&
                         port.host_exposure == manifest::Exposure::kAuto);
    }
  }
  *project.mutable_grants() = request->grants();
  SetServices(project, status);
  *response->mutable_project() = project;
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::SetGrants(Context*, const v1::SetGrantsRequest* request,
                                           v1::SetGrantsResponse* response) {
  const std::lock_guard lock(mutex_);
  calls_.push_back("SetGrants");
  v1::EnsureProjectRequest& ensured = ensured_[request->id()];
  *ensured.mutable_grants() = request->grants();
  v1::Project& project = projects_[request->id()];
  *project.mutable_grants() = request->grants();
  const auto parsed = manifest::Parse(ensured.manifest_json());
  for (int index = 0; index < project.services_size(); ++index) {
    const auto& ports = parsed.manifest->services[static_cast<size_t>(index)].ports;
    for (size_t port = 0; port < ports.size(); ++port) {
      project.mutable_services(index)
          ->mutable_ports(static_cast<int>(port))
          ->set_expose(request->grants().expose_ports() &&
                       ports[port].host_exposure == manifest::Exposure::kAuto);
    }
  }
  *response->mutable_project() = project;
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::OpenProject(Context*, const v1::OpenProjectRequest* request,
                                             grpc::ServerWriter<v1::OpenProjectResponse>* writer) {
  v1::OpenProjectResponse progress;
  progress.mutable_progress()->set_phase(v1::Progress::PHASE_FETCH);
  progress.mutable_progress()->set_service("web");
  progress.mutable_progress()->set_unit("bytes");
  writer->Write(progress);
  v1::OpenProjectResponse last;
  {
    const std::lock_guard lock(mutex_);
    projects_[request->id()].set_opened(true);
    *last.mutable_project() = projects_[request->id()];
  }
  writer->Write(last);
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::StartProject(
    Context* context, const v1::StartProjectRequest* request,
    grpc::ServerWriter<v1::StartProjectResponse>* writer) {
  std::function<absl::Status(grpc::ServerContext&)> script;
  {
    const std::lock_guard lock(mutex_);
    script = on_start_;
  }
  v1::StartProjectResponse progress;
  progress.mutable_progress()->set_phase(v1::Progress::PHASE_START);
  writer->Write(progress);
  if (script) {
    if (const absl::Status status = script(*context); !status.ok()) {
      return rpc::ToGrpc(status);
    }
  }
  SetStatus(request->id(), v1::STATUS_RUNNING);
  v1::StartProjectResponse last;
  *last.mutable_project() = *Find(request->id());
  writer->Write(last);
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::StopProject(Context*, const v1::StopProjectRequest* request,
                                             grpc::ServerWriter<v1::StopProjectResponse>* writer) {
  if (const auto project = Find(request->id()); !project.ok()) {
    return rpc::ToGrpc(project.status());
  }
  SetStatus(request->id(), v1::STATUS_STOPPED);
  v1::StopProjectResponse last;
  *last.mutable_project() = *Find(request->id());
  writer->Write(last);
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::DeleteProjectRuntime(
    Context*, const v1::DeleteProjectRuntimeRequest* request, v1::DeleteProjectRuntimeResponse*) {
  const std::lock_guard lock(mutex_);
  projects_.erase(request->id());
  ensured_.erase(request->id());
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::ListProjects(Context*, const v1::ListProjectsRequest*,
                                              v1::ListProjectsResponse* response) {
  for (const auto& [id, project] : projects()) {
    *response->add_projects() = project;
  }
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::GetProjectStatus(Context*,
                                                  const v1::GetProjectStatusRequest* request,
                                                  v1::GetProjectStatusResponse* response) {
  const auto project = Find(request->id());
  if (!project.ok()) {
    return rpc::ToGrpc(project.status());
  }
  *response->mutable_project() = *project;
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::GetProjectLogs(
    Context* context, const v1::GetProjectLogsRequest* request,
    grpc::ServerWriter<v1::GetProjectLogsResponse>* writer) {
  v1::GetProjectLogsResponse response;
  v1::LogLine& line = *response.add_lines();
  line.mutable_time()->set_seconds(1'700'000'000);
  line.mutable_time()->set_nanos(5);
  line.set_service("web");
  line.set_stream(v1::LogLine::STREAM_STDERR);
  line.set_text("caf\xe9");
  writer->Write(response);
  while (request->follow() && !context->IsCancelled()) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::ImportPackage(
    Context*,
    grpc::ServerReaderWriter<v1::ImportPackageResponse, v1::ImportPackageRequest>* stream) {
  v1::ImportPackageRequest request;
  stream->Read(&request);
  const std::string digest = Sha256Digest(request.index().SerializeAsString());
  uint64_t expected = 0;
  for (const v1::PackageFile& file : request.index().files()) {
    expected += file.size();
  }
  bool known = false;
  {
    const std::lock_guard lock(mutex_);
    known = packages_.count(digest) > 0;
  }
  v1::ImportPackageResponse response;
  response.set_send_files(!known);
  stream->Write(response);
  if (!known) {
    ++imports_;
    std::string bytes;
    while (stream->Read(&request)) {
      bytes += request.chunk();
    }
    if (bytes.size() != expected) {
      return {grpc::StatusCode::DATA_LOSS, "bytes are missing"};
    }
    const std::lock_guard lock(mutex_);
    packages_[digest] = bytes;
    last_upload_ = bytes;
  }
  response.set_package_digest(digest);
  stream->Write(response);
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::Health(Context*, const v1::HealthRequest*,
                                        v1::HealthResponse* response) {
  response->set_version("9.9.9");
  response->set_containerd_ok(true);
  response->set_containerd_version("1.6");
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  response->mutable_time()->set_seconds(
      std::chrono::duration_cast<std::chrono::seconds>(now).count());
  response->mutable_time()->set_nanos(static_cast<int>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() % 1'000'000'000));
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::Events(Context* context, const v1::EventsRequest*,
                                        grpc::ServerWriter<v1::EventsResponse>* writer) {
  uint64_t seen = 0;
  {
    const std::lock_guard lock(mutex_);
    seen = changes_;
  }
  writer->SendInitialMetadata();
  while (!context->IsCancelled()) {
    std::this_thread::sleep_for(milliseconds(5));
    {
      const std::lock_guard lock(mutex_);
      if (changes_ == seen) {
        continue;
      }
      seen = changes_;
    }
    for (const auto& [id, project] : projects()) {
      v1::EventsResponse response;
      *response.mutable_project() = project;
      writer->Write(response);
    }
  }
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::Exec(
    Context*, grpc::ServerReaderWriter<v1::ExecResponse, v1::ExecRequest>* stream) {
  v1::ExecRequest request;
  stream->Read(&request);
  const v1::ExecRequest::Start start = request.start();
  if (start.command(0) == "missing") {
    return rpc::ToGrpc(absl::NotFoundError("there is no program called missing"));
  }
  v1::ExecResponse response;
  response.set_stderr(absl::StrCat(start.command(0), " in ", start.service()));
  stream->Write(response);
  while (stream->Read(&request) && !request.close_stdin()) {
    if (request.has_stdin()) {
      response.set_stdout(request.stdin());
      stream->Write(response);
    } else if (request.has_resize()) {
      response.set_stdout(absl::StrCat(request.resize().columns(), "x", request.resize().rows()));
      stream->Write(response);
    }
  }
  response.set_exit_code(7);
  stream->Write(response);
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::DiskUsage(Context*, const v1::DiskUsageRequest*,
                                           v1::DiskUsageResponse* response) {
  response->set_total_bytes(1000);
  response->set_free_bytes(400);
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::SetHostNetwork(Context*, const v1::SetHostNetworkRequest* request,
                                                v1::SetHostNetworkResponse*) {
  const std::lock_guard lock(mutex_);
  told_.push_back(*request);
  calls_.push_back("SetHostNetwork");
  return grpc::Status::OK;
}

grpc::Status ScriptedSupervisor::Shutdown(Context*, const v1::ShutdownRequest*,
                                          v1::ShutdownResponse*) {
  const std::lock_guard lock(mutex_);
  for (auto& [id, project] : projects_) {
    SetServices(project, v1::STATUS_STOPPED);
  }
  return grpc::Status::OK;
}

namespace {

void Echo(int fd) {
  char buffer[4096];
  ssize_t count = 0;
  while ((count = ::read(fd, buffer, sizeof buffer)) > 0 &&
         ::write(fd, buffer, static_cast<size_t>(count)) == count) {
  }
  ::shutdown(fd, SHUT_WR);
}

std::string ReadHeader(int fd) {
  std::string header;
  char c = 0;
  while (::read(fd, &c, 1) == 1 && c != '\n') {
    header.push_back(c);
  }
  return header;
}

std::string Frame(const std::string& payload) {
  std::string header(relay::kFrameHeaderBytes, '\0');
  relay::WriteFrameHeader(relay::FrameKind::kData, payload.size(), header.data());
  return header + payload;
}

void ServeForward(int fd) {
  std::vector<std::thread> given;
  while (true) {
    const std::string header = ReadHeader(fd);
    if (header.find(" given ") == std::string::npos && header.find(" once ") == std::string::npos) {
      const bool dead = header.empty() || header.find(" dead ") != std::string::npos;
      const bool datagrams = absl::StartsWith(header, "DATAGRAMS ");
      const std::string answer = dead        ? "ERR nobody answers\n"
                                 : datagrams ? "OK\n"
                                             : "OK\n" + Frame(header + "\n");
      if (::write(fd, answer.data(), answer.size()) < 0 || dead) {
        ::shutdown(fd, SHUT_RDWR);
      } else {
        Echo(fd);  // frames of both kinds come back as they are, which makes sense in both
      }
      break;
    }
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
      break;
    }
    UniqueFd passed(pair[1]);
    SendWithDescriptor(fd, "FD\n", passed.get());
    given.emplace_back([end = pair[0]] {
      Echo(end);
      ::close(end);
    });
    if (header.find(" once ") != std::string::npos) {
      ::shutdown(fd, SHUT_RDWR);
      break;
    }
  }
  for (std::thread& thread : given) {
    thread.join();
  }
}

}  // namespace

ScriptedMachine::ScriptedMachine(std::filesystem::path directory, ScriptedSupervisor& supervisor)
    : directory_(std::move(directory)), supervisor_(supervisor) {
  spdlog::set_level(spdlog::level::err);  // what tests provoke is no news
}

ScriptedMachine::~ScriptedMachine() {
  Kill().IgnoreError();
}

void ScriptedMachine::StartSupervisor() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("unix:", (directory_ / "supervisor.sock").string()),
                           grpc::InsecureServerCredentials());
  builder.RegisterService(&supervisor_);
  builder.SetMaxReceiveMessageSize(64 << 20);
  server_ = builder.BuildAndStart();
}

void ScriptedMachine::StopSupervisor() {
  if (server_ != nullptr) {
    server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
}

absl::Status ScriptedMachine::Start() {
  const std::lock_guard lock(mutex_);
  if (on_.exchange(true)) {
    return absl::OkStatus();
  }
  StartSupervisor();
  VIBE_ASSIGN_OR_RETURN(forward_, ListenUnix(directory_ / "forward.sock"));
  forwarder_ = std::thread([this] { ServeForwards(); });
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> ScriptedMachine::Dial(uint32_t port) {
  return ConnectUnix(directory_ /
                     (port == rpc::kSupervisorPort ? "supervisor.sock" : "forward.sock"));
}

absl::Status ScriptedMachine::RequestShutdown() {
  return Kill();
}

absl::Status ScriptedMachine::Kill() {
  const std::lock_guard lock(mutex_);
  if (!on_.exchange(false)) {
    return absl::OkStatus();
  }
  StopSupervisor();
  forwarder_.join();
  forward_.reset();
  return absl::OkStatus();
}

vm::PowerState ScriptedMachine::state() const {
  return on_ ? vm::PowerState::kOn : vm::PowerState::kOff;
}

void ScriptedMachine::ServeForwards() {
  std::vector<std::thread> connections;
  std::vector<UniqueFd> fds;
  while (on_) {
    pollfd polled{forward_.get(), POLLIN, 0};
    if (::poll(&polled, 1, 10) <= 0) {
      continue;
    }
    fds.emplace_back(::accept(forward_.get(), nullptr, nullptr));
    connections.emplace_back([fd = fds.back().get()] { ServeForward(fd); });
  }
  for (const UniqueFd& fd : fds) {
    ::shutdown(fd.get(), SHUT_RDWR);
  }
  for (std::thread& connection : connections) {
    connection.join();
  }
}

}  // namespace vibe::host
