#include "vm/qemu/save.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/status.h"
#include "vm/qemu/host.h"

namespace vibe::vm::qemu {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr uint64_t kMaxRecordBytes = 64 << 10;
// Half a megabyte is usual: all of the guest's memory is in its own file.
constexpr uint64_t kMaxStateBytes = 256 << 20;
constexpr int kVersion = 1;

absl::Status Changed(const char* what) {
  return absl::FailedPreconditionError(absl::StrCat(what, " is not as it was"));
}

absl::Status SyncFile(const fs::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!file.valid() || ::fsync(file.get()) != 0) {
    return ErrnoError(errno, absl::StrCat("sync ", path.string()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> DigestOf(const fs::path& state) {
  VIBE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(state, kMaxStateBytes));
  return Sha256Digest(bytes);
}

json FormatMark(const FileMark& mark) {
  return {{"inode", mark.inode},
          {"bytes", mark.bytes},
          {"modifiedNs", mark.modified_ns},
          {"changedNs", mark.changed_ns}};
}

template <typename Number>
bool Read(const json& document, const char* key, Number& number) {
  const auto found = document.find(key);
  if (found == document.end() || !found->is_number_integer() ||
      (std::is_unsigned_v<Number> && !found->is_number_unsigned())) {
    return false;
  }
  number = found->get<Number>();
  return true;
}

bool ReadMark(const json& document, const char* key, FileMark& mark) {
  const auto found = document.find(key);
  return found != document.end() && found->is_object() && Read(*found, "inode", mark.inode) &&
         Read(*found, "bytes", mark.bytes) && Read(*found, "modifiedNs", mark.modified_ns) &&
         Read(*found, "changedNs", mark.changed_ns);
}

absl::Status RemoveRecord(const Layout& layout) {
  if (::unlink(layout.save().c_str()) != 0) {
    return errno == ENOENT ? absl::OkStatus()
                           : ErrnoError(errno, absl::StrCat("remove ", layout.save().string()));
  }
  return SyncDirectory(layout.directory);
}

absl::StatusOr<OpenSave> Open(const Layout& layout, const MachineSpec& spec, const Save& save) {
  if (save.boot.made_of != MadeOf(spec)) {
    return Changed("the machine (its image, qemu, size or channel)");
  }
  const absl::StatusOr<FileMark> disk = MarkOf(layout.disk());
  if (!disk.ok() || *disk != save.disk) {
    return Changed("the data disk");
  }
  if (disk->bytes < spec.guest.disk_mib << 20) {
    return Changed("the data disk's size");
  }
  const absl::StatusOr<FileMark> memory = MarkOf(layout.memory());
  if (!memory.ok() || *memory != save.memory) {
    return Changed("the saved memory");
  }
  UniqueFd state(::open(layout.state().c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  const absl::StatusOr<std::string> digest = DigestOf(layout.state());
  if (!state.valid() || !digest.ok() || *digest != save.state_sha256) {
    return Changed("the saved state");
  }
  return OpenSave{save.boot, std::move(state)};
}

}  // namespace

absl::StatusOr<FileMark> MarkOf(const fs::path& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::NotFoundError(absl::StrCat("there is no file ", path.string()));
  }
  const auto nanoseconds = [](const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return FileMark{.inode = info.st_ino,
                  .bytes = static_cast<uint64_t>(info.st_size),
                  .modified_ns = nanoseconds(info.st_mtim),
                  .changed_ns = nanoseconds(info.st_ctim)};
}

std::string FormatSave(const Save& save) {
  return json{{"version", kVersion},
              {"boot", json::parse(FormatBoot(save.boot))},
              {"disk", FormatMark(save.disk)},
              {"memory", FormatMark(save.memory)},
              {"stateSha256", save.state_sha256}}
             .dump(2) +
         "\n";
}

absl::StatusOr<Save> ParseSave(absl::string_view text) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const absl::Status wrong = absl::InvalidArgumentError("not the record of a saved machine");
  Save save;
  int version = 0;
  if (!document.is_object() || !Read(document, "version", version) || version != kVersion ||
      !document.contains("boot") || !ReadMark(document, "disk", save.disk) ||
      !ReadMark(document, "memory", save.memory) || !document.contains("stateSha256") ||
      !document["stateSha256"].is_string()) {
    return wrong;
  }
  save.state_sha256 = document["stateSha256"].get<std::string>();
  VIBE_ASSIGN_OR_RETURN(save.boot, ParseBoot(document["boot"].dump()));
  return save;
}

std::string MadeOf(const MachineSpec& spec) {
  // What each start chooses anew, or a resumed guest has from its save, makes no other machine.
  MachineSpec same = spec;
  same.resume = false;
  same.boot.cid = 0;
  same.boot.forward_port = 0;
  json parts{{"qemu", FileIdentity(spec.qemu)},
             {"kernel", FileIdentity(spec.image.kernel)},
             {"initrd", FileIdentity(spec.image.initrd)},
             {"command", QemuCommand(same)},
             {"device", VsockDeviceCommand(same)},
             {"processor", spec.boot.kvm ? ProcessorIdentity() : ""}};
  return Sha256Digest(parts.dump(-1, ' ', false, json::error_handler_t::replace));
}

absl::Status RecordSave(const Layout& layout, const Boot& boot) {
  for (const fs::path& path : {layout.state(), layout.memory(), layout.disk()}) {
    VIBE_RETURN_IF_ERROR(SyncFile(path));
  }
  Save save{.boot = boot, .disk = {}, .memory = {}, .state_sha256 = ""};
  VIBE_ASSIGN_OR_RETURN(save.disk, MarkOf(layout.disk()));
  VIBE_ASSIGN_OR_RETURN(save.memory, MarkOf(layout.memory()));
  VIBE_ASSIGN_OR_RETURN(save.state_sha256, DigestOf(layout.state()));
  // The directory's entries for state and memory are synced with the record's.
  return ReplaceFile(layout.save(), FormatSave(save), 0600);
}

absl::StatusOr<OpenSave> TakeSave(const Layout& layout, const MachineSpec& spec) {
  const absl::StatusOr<std::string> text = ReadFile(layout.save(), kMaxRecordBytes);
  if (absl::IsNotFound(text.status())) {
    VIBE_RETURN_IF_ERROR(DiscardSave(layout));  // what a crash left of one that never was
    return absl::NotFoundError("the machine is not suspended");
  }
  absl::StatusOr<Save> save = text.ok() ? ParseSave(*text) : absl::StatusOr<Save>(text.status());
  absl::StatusOr<OpenSave> open =
      save.ok() ? Open(layout, spec, *save)
                : absl::FailedPreconditionError(std::string(save.status().message()));
  VIBE_RETURN_IF_ERROR(DiscardSave(layout));
  return open;
}

absl::Status DiscardSave(const Layout& layout) {
  VIBE_RETURN_IF_ERROR(RemoveRecord(layout));
  return RemoveAll(layout.state());
}

}  // namespace vibe::vm::qemu
