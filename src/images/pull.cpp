#include "images/pull.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/random.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace vibe::images {
namespace {

constexpr absl::Duration kReportInterval = absl::Milliseconds(100);
// A lease keeps what is not yet part of an image; after a failed pull it is what the next one goes
// on from.
constexpr absl::Duration kLeaseTime = absl::Hours(24);
constexpr size_t kParallelLayers = 3;
// A writer whose connection broke holds its ingest until containerd has noticed.
constexpr absl::Duration kLockPatience = absl::Seconds(10);
constexpr absl::Duration kLockPause = absl::Milliseconds(100);

// The leases of one image's pulls share a prefix, so that the next pull finds what the last one
// left.
std::string LeasePrefix(const std::string& image_name) {
  return absl::StrCat("pull-", Sha256Digest(image_name).substr(7, 16), "-");
}

int64_t TotalSize(const std::vector<oci::Descriptor>& layers) {
  int64_t total = 0;
  for (const oci::Descriptor& layer : layers) {
    total += layer.size;
  }
  return total;
}

std::vector<oci::Descriptor> WithoutRepeats(const std::vector<oci::Descriptor>& layers) {
  std::map<std::string, oci::Descriptor> unique;
  for (const oci::Descriptor& layer : layers) {
    unique.emplace(layer.digest, layer);
  }
  std::vector<oci::Descriptor> result;
  for (auto& [digest, layer] : unique) {
    result.push_back(std::move(layer));
  }
  // The longest first: it alone decides when all are there.
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) {
    return a.size > b.size || (a.size == b.size && a.digest < b.digest);
  });
  return result;
}

// containerd's records survive a power cut as soon as they are made; the files that it unpacked do
// so only when the file system has written them. Without this a layer would be there for ever by
// its record, and empty.
absl::Status SyncFileSystemOf(const std::vector<containerd::Mount>& mounts) {
  for (const containerd::Mount& mount : mounts) {
    std::string path = mount.source;
    for (absl::string_view option : mount.options) {
      if (absl::ConsumePrefix(&option, "upperdir=")) {
        path = std::string(option);
      }
    }
    const UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.valid() && ::syncfs(directory.get()) != 0) {
      return ErrnoError(errno, absl::StrCat("write ", path, " to the disk"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ProgressMeter::Add(int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  progress_.done = std::min(progress_.done + bytes, progress_.total);
  if (status_.ok() && absl::Now() - reported_ >= kReportInterval) {
    status_ = Report();
  }
  return status_;
}

absl::Status ProgressMeter::Finish() {
  absl::MutexLock lock(&mutex_);
  progress_.done = progress_.total;
  return Report();
}

void ProgressMeter::Stop(const absl::Status& error) {
  absl::MutexLock lock(&mutex_);
  status_.Update(error);
}

absl::Status ProgressMeter::Report() {
  reported_ = absl::Now();
  return sink_ == nullptr ? absl::OkStatus() : sink_(progress_);
}

absl::Status Pull::Run(const oci::Platform& platform) {
  VIBE_ASSIGN_OR_RETURN(const std::unique_ptr<oci::ImageSource> source, open_source_(reference_));
  VIBE_ASSIGN_OR_RETURN(const Documents documents, ReadDocuments(*source, platform));
  const std::string prefix = LeasePrefix(reference_.ToString());
  VIBE_ASSIGN_OR_RETURN(const std::vector<std::string> leases, client_.ListLeases(ns_));
  VIBE_ASSIGN_OR_RETURN(lease_,
                        client_.CreateLease(ns_, absl::StrCat(prefix, RandomHex(6)), kLeaseTime));
  const absl::Status status = RunUnderLease(documents);
  // A failed pull keeps its own lease, and with it what it fetched; what older ones had is in it
  // too.
  for (const std::string& lease : leases) {
    if (absl::StartsWith(lease, prefix)) {
      client_.DeleteLease(ns_, lease, false).IgnoreError();  // it ends by itself
    }
  }
  VIBE_RETURN_IF_ERROR(status);
  return client_.DeleteLease(ns_, lease_, false);
}

absl::Status Pull::RunUnderLease(const Documents& documents) {
  VIBE_RETURN_IF_ERROR(FetchLayers(documents));
  VIBE_RETURN_IF_ERROR(WriteDocuments(documents));
  VIBE_RETURN_IF_ERROR(Unpack(documents));
  return client_.PutImage(ns_, lease_,
                          {.name = reference_.ToString(),
                           .target_media_type = documents.target.media_type,
                           .target_digest = documents.target.digest,
                           .target_size = documents.target.size,
                           .labels = {}});
}

// The labels are the edges along which the garbage collector walks: image -> index -> manifest ->
// config and layers, config -> unpacked filesystem.
absl::Status Pull::WriteDocuments(const Documents& documents) {
  VIBE_RETURN_IF_ERROR(
      client_.WriteBlob(ns_, lease_, documents.config.digest, documents.config_json,
                        {{absl::StrCat("containerd.io/gc.ref.snapshot.", client_.snapshotter()),
                          documents.chain_ids.back()}}));
  containerd::Labels labels = {{"containerd.io/gc.ref.content.config", documents.config.digest}};
  for (size_t i = 0; i < documents.layers.size(); ++i) {
    labels[absl::StrCat("containerd.io/gc.ref.content.l.", i)] = documents.layers[i].digest;
  }
  VIBE_RETURN_IF_ERROR(
      client_.WriteBlob(ns_, lease_, documents.manifest.digest, documents.manifest_json, labels));
  if (documents.index_json.empty()) {
    return absl::OkStatus();
  }
  return client_.WriteBlob(ns_, lease_, documents.target.digest, documents.index_json,
                           {{"containerd.io/gc.ref.content.m.0", documents.manifest.digest}});
}

absl::Status Pull::FetchLayers(const Documents& documents) {
  const std::vector<oci::Descriptor> layers = WithoutRepeats(documents.layers);
  ProgressMeter meter(PullProgress::Phase::kFetch, TotalSize(layers), progress_);
  VIBE_RETURN_IF_ERROR(meter.Add(0));
  std::atomic<size_t> next = 0;
  absl::Mutex mutex;
  absl::Status first_error;
  const auto work = [&] {
    auto source = open_source_(reference_);
    absl::Status status = source.status();
    for (size_t i = next++; status.ok() && i < layers.size(); i = next++) {
      status = FetchLayer(**source, layers[i], meter);
    }
    if (!status.ok()) {
      next = layers.size();
      absl::MutexLock lock(&mutex);
      first_error.Update(status);
      meter.Stop(absl::CancelledError("another layer failed"));
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(kParallelLayers, layers.size()); ++i) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) {
    thread.join();
  }
  VIBE_RETURN_IF_ERROR(first_error);
  return meter.Finish();
}

absl::Status Pull::FetchLayer(oci::ImageSource& source, const oci::Descriptor& layer,
                              ProgressMeter& meter) {
  VIBE_ASSIGN_OR_RETURN(const KeyLocks::Hold hold,
                        blob_locks_.Lock(layer.digest, [&] { return meter.Add(0); }));
  bool resumed = false;
  absl::Status status = FetchOnce(source, layer, meter, resumed);
  if (absl::IsDataLoss(status) && resumed) {
    // The wrong bytes may be those of an earlier attempt: they are gone now.
    status = FetchOnce(source, layer, meter, resumed);
  }
  return Annotate(status, absl::StrCat("layer ", layer.digest.substr(0, 19)));
}

absl::Status Pull::FetchOnce(oci::ImageSource& source, const oci::Descriptor& layer,
                             ProgressMeter& meter, bool& resumed) {
  VIBE_ASSIGN_OR_RETURN(const auto writer, OpenWriter(layer, meter));
  const int64_t offset = writer->offset();
  resumed = offset > 0 && offset < layer.size;
  VIBE_RETURN_IF_ERROR(meter.Add(offset));
  if (offset < layer.size) {
    const auto store = [&](absl::string_view bytes) -> absl::Status {
      VIBE_RETURN_IF_ERROR(writer->Write(bytes));
      return meter.Add(static_cast<int64_t>(bytes.size()));
    };
    VIBE_RETURN_IF_ERROR(source.ReadBlob(layer, offset, store));
  }
  return writer->Commit({});
}

absl::StatusOr<std::unique_ptr<containerd::BlobWriter>> Pull::OpenWriter(
    const oci::Descriptor& layer, ProgressMeter& meter) {
  const absl::Time give_up = absl::Now() + kLockPatience;
  while (true) {
    auto writer = client_.OpenBlobWriter(ns_, lease_, absl::StrCat("blob-", layer.digest),
                                         layer.digest, layer.size);
    const bool locked = absl::IsUnavailable(writer.status()) &&
                        absl::StrContains(writer.status().message(), "locked");
    if (!locked || absl::Now() > give_up) {
      return writer;
    }
    VIBE_RETURN_IF_ERROR(meter.Add(0));
    absl::SleepFor(kLockPause);
  }
}

absl::Status Pull::Unpack(const Documents& documents) {
  const size_t count = documents.layers.size();
  size_t first = count;  // the lowest layer that is still to be unpacked
  for (; first > 0; --first) {
    VIBE_ASSIGN_OR_RETURN(const bool there,
                          client_.HasSnapshot(ns_, documents.chain_ids[first - 1]));
    if (there) {
      break;
    }
  }
  ProgressMeter meter(PullProgress::Phase::kUnpack, TotalSize(documents.layers), progress_);
  for (size_t i = 0; i < count; ++i) {
    if (i >= first) {
      const absl::Status status = UnpackLayer(documents, i);
      VIBE_RETURN_IF_ERROR(
          Annotate(status, absl::StrCat("unpacking layer ", i + 1, " of ", count)));
    }
    VIBE_RETURN_IF_ERROR(meter.Add(documents.layers[i].size));
  }
  return meter.Finish();
}

absl::Status Pull::UnpackLayer(const Documents& documents, size_t index) {
  const oci::Descriptor& layer = documents.layers[index];
  const std::string& chain_id = documents.chain_ids[index];
  const std::string parent = index == 0 ? "" : documents.chain_ids[index - 1];
  const std::string key = absl::StrCat("unpack-", RandomHex(8), " ", chain_id);
  VIBE_ASSIGN_OR_RETURN(const std::vector<containerd::Mount> mounts,
                        client_.PrepareSnapshot(ns_, lease_, key, parent, {}));
  const auto diff_id =
      client_.ApplyDiff(ns_, lease_, layer.media_type, layer.digest, layer.size, mounts);
  absl::Status status = diff_id.status();
  if (status.ok()) {
    status = SyncFileSystemOf(mounts);
  }
  if (status.ok() && *diff_id != documents.diff_ids[index]) {
    status = absl::DataLossError(absl::StrCat("it unpacks to ", *diff_id, ", but the image says ",
                                              documents.diff_ids[index]));
  }
  if (status.ok()) {
    status = client_.CommitSnapshot(ns_, lease_, chain_id, key, {});
  }
  if (!status.ok()) {
    client_.RemoveSnapshot(ns_, key).IgnoreError();  // the lease ends, and with it what is left
  }
  // Another image with the same lower layers was faster.
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

}  // namespace vibe::images
