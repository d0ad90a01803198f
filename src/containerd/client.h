// containerd 1.6/1.7 over its gRPC API. This header shows no generated type: the stubs take many
// seconds to compile and stay inside this folder.
//
// Client: thread-safe; the connection is made on the first call and again after containerd
// restarts. Every call is in one namespace and has a deadline. Errors: containerd's codes
// (NotFound, AlreadyExists, FailedPrecondition, Unavailable while it is down), with the call's name
// as context; a full disk is ResourceExhausted with DISK_LOW. A restart of containerd is waited
// for, up to 3 s. Deleting what is not there succeeds.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace vibe::containerd {

using Labels = std::map<std::string, std::string>;

struct Mount {
  std::string type;
  std::string source;
  std::string target;
  std::vector<std::string> options;
};

struct Image {
  std::string name;
  std::string target_media_type;
  std::string target_digest;
  int64_t target_size = 0;
  Labels labels;
};

struct Container {
  std::string id;
  std::string image;
  std::string snapshot_key;
  std::string spec_json;  // OCI runtime spec
  Labels labels;
};

enum class TaskStatus { kUnknown, kCreated, kRunning, kStopped, kPaused };
struct Task {
  std::string container_id;
  uint32_t pid = 0;
  TaskStatus status = TaskStatus::kUnknown;
  uint32_t exit_code = 0;  // when stopped
  absl::Time exited_at;
};

struct TaskExit {
  std::string ns;
  std::string container_id;
  std::string exec_id;  // equals container_id for the container's first process
  uint32_t exit_code = 0;
  absl::Time exited_at;
};

struct TaskIo {  // paths of fifos or a URI; empty: /dev/null
  std::string stdin_path, stdout_uri, stderr_uri;
  bool terminal = false;
};

struct BlobInfo {
  int64_t size = 0;
  Labels labels;
};

// An open ingest. Not thread-safe. Destroying it without Commit leaves the partial ingest for a
// later attempt to resume.
class BlobWriter {
 public:
  virtual ~BlobWriter() = default;
  // Where to go on: bytes that an earlier attempt wrote. Equal to the total: the blob is there
  // already, Commit at once.
  virtual int64_t offset() const = 0;
  virtual absl::Status Write(absl::string_view bytes) = 0;  // sent in frames of up to 1 MiB
  // DataLoss when the bytes do not have the expected digest (the ingest is aborted then);
  // FailedPrecondition when bytes are missing yet.
  virtual absl::Status Commit(const Labels& labels) = 0;
};

class Client {
 public:
  struct Options {
    std::string socket_path;
    std::string runtime_binary;  // "/usr/bin/crun"; empty: the shim's default
    std::string snapshotter = "overlayfs";
  };
  explicit Client(Options options);
  ~Client();

  const std::string& snapshotter() const;

  absl::StatusOr<std::string> Version();
  // The same, without waiting for a containerd that is being restarted.
  absl::StatusOr<std::string> Probe(absl::Duration timeout);

  // Namespaces. Create of an existing one succeeds; Delete of a missing one succeeds. Delete of a
  // namespace that still holds objects is FailedPrecondition.
  absl::Status CreateNamespace(const std::string& ns, const Labels& labels);
  absl::Status DeleteNamespace(const std::string& ns);
  absl::StatusOr<std::vector<std::string>> ListNamespaces();

  // Leases: what is written while one is given to a call lives at least until the lease is deleted
  // or expires. Pass `lease` = "" for none.
  absl::StatusOr<std::string> CreateLease(const std::string& ns, const std::string& id,
                                          absl::Duration expires_after);
  absl::Status DeleteLease(const std::string& ns, const std::string& id, bool collect_garbage_now);
  absl::StatusOr<std::vector<std::string>> ListLeases(const std::string& ns);

  // Content. OpenBlobWriter is Unavailable with "locked" while another writer has the same `ref`.
  // SetBlobLabels adds to the labels that there are.
  absl::StatusOr<BlobInfo> StatBlob(const std::string& ns, const std::string& digest);
  absl::StatusOr<std::string> ReadBlob(const std::string& ns, const std::string& digest,
                                       int64_t max_bytes);
  absl::StatusOr<std::unique_ptr<BlobWriter>> OpenBlobWriter(const std::string& ns,
                                                             const std::string& lease,
                                                             const std::string& ref,
                                                             const std::string& digest,
                                                             int64_t size);
  absl::Status WriteBlob(const std::string& ns, const std::string& lease, const std::string& digest,
                         absl::string_view bytes, const Labels& labels);  // small ones, whole
  absl::Status SetBlobLabels(const std::string& ns, const std::string& digest,
                             const Labels& labels);
  absl::StatusOr<std::vector<std::pair<std::string, BlobInfo>>> ListBlobs(const std::string& ns);
  absl::Status DeleteBlob(const std::string& ns, const std::string& digest);
  absl::StatusOr<std::vector<std::string>> ListIngests(const std::string& ns);
  absl::Status AbortIngest(const std::string& ns, const std::string& ref);

  // Images. PutImage creates or updates.
  absl::Status PutImage(const std::string& ns, const std::string& lease, const Image& image);
  absl::StatusOr<Image> GetImage(const std::string& ns, const std::string& name);
  absl::StatusOr<std::vector<Image>> ListImages(const std::string& ns);
  absl::Status DeleteImage(const std::string& ns, const std::string& name,
                           bool collect_garbage_now);

  // Snapshots. Remove of a missing one succeeds.
  absl::StatusOr<std::vector<Mount>> PrepareSnapshot(const std::string& ns,
                                                     const std::string& lease,
                                                     const std::string& key,
                                                     const std::string& parent,
                                                     const Labels& labels);
  absl::StatusOr<std::vector<Mount>> SnapshotMounts(const std::string& ns, const std::string& key);
  absl::Status CommitSnapshot(const std::string& ns, const std::string& lease,
                              const std::string& name, const std::string& key,
                              const Labels& labels);
  absl::StatusOr<bool> HasSnapshot(const std::string& ns, const std::string& key);
  absl::Status RemoveSnapshot(const std::string& ns, const std::string& key);
  struct SnapshotInfo {
    std::string name, parent;
    bool committed = false;
  };
  absl::StatusOr<std::vector<SnapshotInfo>> ListSnapshots(const std::string& ns);

  // Unpacks a layer blob into mounts; returns the digest of the uncompressed layer.
  absl::StatusOr<std::string> ApplyDiff(const std::string& ns, const std::string& lease,
                                        const std::string& media_type, const std::string& digest,
                                        int64_t size, const std::vector<Mount>& mounts);

  // Containers. Delete of a missing one succeeds.
  absl::Status CreateContainer(const std::string& ns, const Container& container);
  absl::StatusOr<std::vector<Container>> ListContainers(const std::string& ns);
  absl::Status DeleteContainer(const std::string& ns, const std::string& id);

  // Tasks. The container's snapshot gives the root filesystem.
  absl::StatusOr<uint32_t> CreateTask(const std::string& ns, const std::string& id,
                                      const std::vector<Mount>& rootfs, const TaskIo& io);
  absl::Status StartTask(const std::string& ns, const std::string& id,
                         const std::string& exec_id = "");
  absl::StatusOr<Task> GetTask(const std::string& ns, const std::string& id);
  absl::StatusOr<std::vector<Task>> ListTasks(const std::string& ns);
  // A process that has ended is a success for Kill; DeleteTask of a missing task succeeds.
  absl::Status KillTask(const std::string& ns, const std::string& id, int signal, bool all,
                        const std::string& exec_id = "");
  absl::StatusOr<uint32_t> WaitTask(const std::string& ns, const std::string& id,
                                    absl::Duration timeout, const std::string& exec_id = "");
  absl::Status DeleteTask(const std::string& ns, const std::string& id);
  absl::Status PauseTask(const std::string& ns, const std::string& id);
  absl::Status ResumeTask(const std::string& ns, const std::string& id);

  // A further process in a task. process_json is the OCI runtime spec's "process".
  absl::Status ExecTask(const std::string& ns, const std::string& id, const std::string& exec_id,
                        const std::string& process_json, const TaskIo& io);
  absl::Status ResizeTask(const std::string& ns, const std::string& id, const std::string& exec_id,
                          uint32_t columns, uint32_t rows);
  absl::Status CloseStdin(const std::string& ns, const std::string& id, const std::string& exec_id);
  absl::Status DeleteExec(const std::string& ns, const std::string& id, const std::string& exec_id);

  // Calls `on_exit` from this thread for each process that ends in any namespace. Returns only on
  // an error (containerd went away) or after `Cancel` of the token from another thread.
  class Cancellation {
   public:
    Cancellation();
    ~Cancellation();
    void Cancel();

   private:
    friend class Client;
    struct State;
    std::shared_ptr<State> state_;
  };
  // `on_subscribed` is called once, when events that happen from now on will be seen.
  absl::Status WatchExits(Cancellation& cancellation, const std::function<void()>& on_subscribed,
                          const std::function<void(const TaskExit&)>& on_exit);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vibe::containerd
