// The machine's end of the contract, in memory: projects that start and stop as asked, and what a
// test tells it to get wrong. Stands in for vibe-supervisor, behind a VirtualMachine that is a
// folder with two sockets.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "vibe/v1/supervisor.grpc.pb.h"
#include "vm/virtual_machine.h"

namespace vibe::host {

class ScriptedSupervisor : public v1::Supervisor::Service {
 public:
  // What happens in StartProject before it succeeds.
  void OnStart(std::function<absl::Status(grpc::ServerContext&)> script);
  std::map<std::string, v1::Project> projects() const;
  void Add(const v1::Project& project);
  void Clear();  // knows no project any more
  void SetStatus(const std::string& id, v1::Status status);
  std::map<std::string, v1::EnsureProjectRequest> ensured() const;
  std::string uploaded() const;                         // the bytes of the last package
  std::vector<v1::SetHostNetworkRequest> told() const;  // of this computer's network
  std::vector<std::string> calls() const;               // of SetGrants and SetHostNetwork
  int imports() const { return imports_; }              // that needed bytes

  using Context = grpc::ServerContext;
  grpc::Status EnsureProject(Context*, const v1::EnsureProjectRequest*,
                             v1::EnsureProjectResponse*) override;
  grpc::Status SetGrants(Context*, const v1::SetGrantsRequest*, v1::SetGrantsResponse*) override;
  grpc::Status OpenProject(Context*, const v1::OpenProjectRequest*,
                           grpc::ServerWriter<v1::OpenProjectResponse>*) override;
  grpc::Status StartProject(Context*, const v1::StartProjectRequest*,
                            grpc::ServerWriter<v1::StartProjectResponse>*) override;
  grpc::Status StopProject(Context*, const v1::StopProjectRequest*,
                           grpc::ServerWriter<v1::StopProjectResponse>*) override;
  grpc::Status DeleteProjectRuntime(Context*, const v1::DeleteProjectRuntimeRequest*,
                                    v1::DeleteProjectRuntimeResponse*) override;
  grpc::Status ListProjects(Context*, const v1::ListProjectsRequest*,
                            v1::ListProjectsResponse*) override;
  grpc::Status GetProjectStatus(Context*, const v1::GetProjectStatusRequest*,
                                v1::GetProjectStatusResponse*) override;
  grpc::Status GetProjectLogs(Context*, const v1::GetProjectLogsRequest*,
                              grpc::ServerWriter<v1::GetProjectLogsResponse>*) override;
  grpc::Status ImportPackage(
      Context*,
      grpc::ServerReaderWriter<v1::ImportPackageResponse, v1::ImportPackageRequest>*) override;
  grpc::Status Health(Context*, const v1::HealthRequest*, v1::HealthResponse*) override;
  grpc::Status Events(Context*, const v1::EventsRequest*,
                      grpc::ServerWriter<v1::EventsResponse>*) override;
  grpc::Status Exec(Context*,
                    grpc::ServerReaderWriter<v1::ExecResponse, v1::ExecRequest>*) override;
  grpc::Status DiskUsage(Context*, const v1::DiskUsageRequest*, v1::DiskUsageResponse*) override;
  grpc::Status SetHostNetwork(Context*, const v1::SetHostNetworkRequest*,
                              v1::SetHostNetworkResponse*) override;
  grpc::Status Shutdown(Context*, const v1::ShutdownRequest*, v1::ShutdownResponse*) override;

 private:
  absl::StatusOr<v1::Project> Find(const std::string& id) const;

  mutable std::mutex mutex_;
  std::map<std::string, v1::Project> projects_;
  std::map<std::string, v1::EnsureProjectRequest> ensured_;
  std::map<std::string, std::string> packages_;  // digest to bytes
  std::string last_upload_;
  std::vector<v1::SetHostNetworkRequest> told_;
  std::vector<std::string> calls_;
  std::function<absl::Status(grpc::ServerContext&)> on_start_;
  uint64_t changes_ = 0;
  std::atomic<int> imports_{0};
};

// Forwarded connections are answered "OK" and then echoed in frames, header and all; those to a
// service called "dead" get "ERR", and "given" and "once" an echoing socket of their own, after
// which "once" closes the stream. Datagrams are echoed.
class ScriptedMachine : public vm::VirtualMachine {
 public:
  // `supervisor` and the folder outlive it.
  ScriptedMachine(std::filesystem::path directory, ScriptedSupervisor& supervisor);
  ~ScriptedMachine() override;

  // The supervisor's process ends, or a new one begins; the machine stays on.
  void StopSupervisor();
  void StartSupervisor();

  std::string name() const override { return "scripted"; }
  absl::Status Start() override;
  absl::StatusOr<UniqueFd> Dial(uint32_t port) override;
  absl::Status RequestShutdown() override;
  absl::Status Kill() override;
  absl::Status Pause() override { return absl::UnimplementedError("pause"); }
  absl::Status Resume() override { return absl::UnimplementedError("resume"); }
  vm::PowerState state() const override;

 private:
  void ServeForwards();

  const std::filesystem::path directory_;
  ScriptedSupervisor& supervisor_;
  std::mutex mutex_;
  std::unique_ptr<grpc::Server> server_;
  std::atomic<bool> on_{false};
  UniqueFd forward_;
  std::thread forwarder_;
};

}  // namespace vibe::host
