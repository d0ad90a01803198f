// The app manifest, kind vibe.app/v1, as a checked value. docs/formats/manifest.md is its
// reference. Plain values; copying is cheap enough and any thread may read them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace vibe::manifest {

enum class Exposure { kAuto, kNone };
enum class Protocol { kTcp, kUdp };
enum class Consistency { kGeneric, kSqlite, kPostgres };
enum class Restart { kNo, kOnFailure, kAlways };
enum class RuntimeMode { kNative, kCompose };

struct Port {
  uint16_t container = 0;
  Exposure host_exposure = Exposure::kAuto;
  Protocol protocol = Protocol::kTcp;

  friend bool operator==(const Port&, const Port&) = default;
};

// A volume of the project at a path of the container. `mounts` and `stateVolumes` both become this.
struct Mount {
  std::string volume;
  std::string target;  // absolute, normalized

  friend bool operator==(const Mount&, const Mount&) = default;
};

struct Healthcheck {
  // {"CMD", args…}, {"CMD-SHELL", line} or {"NONE"}, as Compose has it; a bare string became
  // CMD-SHELL.
  std::vector<std::string> test;
  int64_t interval_ms = 30'000;
  int64_t timeout_ms = 30'000;
  int64_t start_period_ms = 0;
  int retries = 3;

  friend bool operator==(const Healthcheck&, const Healthcheck&) = default;
};

// A command that runs in the service's own container, as its user and with its environment.
struct Hook {
  std::vector<std::string> command;  // program and arguments, never empty
  int64_t timeout_ms = 30'000;

  friend bool operator==(const Hook&, const Hook&) = default;
};

struct Hooks {
  std::optional<Hook> pre_save;      // before the instant of a snapshot
  std::optional<Hook> post_restore;  // after the first start with data that a restore brought

  friend bool operator==(const Hooks&, const Hooks&) = default;
};

struct Resources {
  double cpus = 0;           // 0: no limit
  int64_t memory_bytes = 0;  // 0: no limit

  friend bool operator==(const Resources&, const Resources&) = default;
};

struct Service {
  std::string name;
  std::vector<std::string> aliases;  // more host names of it, of this project alone
  std::string image;
  std::vector<std::string> entrypoint;  // empty: the image's
  std::vector<std::string> command;     // empty: the image's CMD
  std::map<std::string, std::string> env;
  std::vector<Port> ports;
  std::vector<Mount> mounts;
  std::vector<std::string> depends_on;
  std::optional<Healthcheck> healthcheck;
  Hooks hooks;
  std::string working_dir;
  std::string user;
  Restart restart = Restart::kOnFailure;
  Resources resources;
  std::vector<std::string> tmpfs;  // absolute paths

  friend bool operator==(const Service&, const Service&) = default;
};

struct Volume {
  std::string name;
  Consistency consistency = Consistency::kGeneric;

  friend bool operator==(const Volume&, const Volume&) = default;
};

struct State {
  bool autosave = false;
  int64_t autosave_debounce_seconds = 30;
  int64_t max_snapshots = 100;
  std::vector<Volume> volumes;

  friend bool operator==(const State&, const State&) = default;
};

struct Secret {
  std::string name;
  bool required = false;
  std::string how_to_obtain;

  friend bool operator==(const Secret&, const Secret&) = default;
};

struct Ui {
  bool show_back_button = false;
  bool show_forward_button = false;
  bool show_reload_button = false;
  bool show_home_button = false;

  friend bool operator==(const Ui&, const Ui&) = default;
};

struct Publisher {
  std::string name;
  std::string signing_scheme;  // "ed25519" or empty
  std::string signature_file;
  std::string public_key_file;

  friend bool operator==(const Publisher&, const Publisher&) = default;
};

struct Manifest {
  std::string id;
  std::string name;
  std::string version;
  std::string icon;
  RuntimeMode mode = RuntimeMode::kNative;
  std::string compose_file;
  std::vector<Service> services;
  State state;
  bool network = false;                 // security.network
  bool allow_host_file_import = false;  // security.allowHostFileImport
  std::vector<Secret> secrets;
  Ui ui;
  std::optional<Publisher> publisher;

  friend bool operator==(const Manifest&, const Manifest&) = default;
};

}  // namespace vibe::manifest
