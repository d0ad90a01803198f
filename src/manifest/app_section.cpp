#include "manifest/app_section.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "manifest/names.h"
#include "manifest/section.h"

namespace vibe::manifest {
namespace {

constexpr char kKind[] = "vibe.app/v1";
constexpr size_t kMaxId = 255;
constexpr size_t kMaxName = 256;
constexpr size_t kMaxVersion = 256;
constexpr size_t kMaxPath = 1024;
constexpr size_t kMaxVolumes = 100;
constexpr size_t kMaxVolumeName = 128;
constexpr size_t kMaxSecrets = 100;
constexpr size_t kMaxHowToObtain = 4096;
constexpr int64_t kMaxDebounceSeconds = int64_t{24} * 3600;
constexpr int64_t kMaxMaxSnapshots = 10'000;

std::optional<std::string> TextOf(const std::optional<Value>& value, size_t max,
                                  Diagnostics& diagnostics) {
  return value ? ReadText(*value, {.max = max}, diagnostics) : std::nullopt;
}

void ReadBoolKey(Section& section, absl::string_view key, bool& out) {
  if (const auto value = section.Find(key)) {
    out = ReadBool(*value, section.diagnostics()).value_or(out);
  }
}

void ReadWholeKey(Section& section, absl::string_view key, int64_t min, int64_t max, int64_t& out) {
  if (const auto value = section.Find(key)) {
    out = ReadWhole(*value, min, max, section.diagnostics()).value_or(out);
  }
}

// A path of a file in the package.
std::string CheckRelativePath(const std::optional<Value>& value, Diagnostics& diagnostics) {
  const auto path = TextOf(value, kMaxPath, diagnostics);
  if (path && !IsRelativePath(*path)) {
    diagnostics.Error(
        value->place,
        absl::StrCat("must be a path inside the app's folder: relative, without .., not ",
                     Quoted(*path)));
  }
  return path.value_or("");
}

void ReadIdentity(Section& section, Manifest& manifest) {
  Diagnostics& diagnostics = section.diagnostics();
  const auto kind = section.Require("kind", absl::StrCat("kind: ", kKind));
  if (const auto text = TextOf(kind, kMaxName, diagnostics); text && *text != kKind) {
    diagnostics.Error(kind->place, absl::StrCat("must be ", kKind,
                                                ", the only kind that this version reads; it is ",
                                                Quoted(*text)));
  }
  const auto id = section.Require("id", "id: com.example.my-app");
  if (const auto text = TextOf(id, kMaxId, diagnostics)) {
    manifest.id = *text;
    if (!IsAppId(*text)) {
      diagnostics.Error(
          id->place,
          absl::StrCat("must be a reverse DNS name such as com.example.my-app, each part "
                       "starting with a letter, the first without hyphens; it is ",
                       Quoted(*text)));
    }
  }
  manifest.name =
      TextOf(section.Require("name", "name: My App"), kMaxName, diagnostics).value_or("");
  const auto version = section.Require("version", "version: 1.0.0");
  if (const auto text = TextOf(version, kMaxVersion, diagnostics)) {
    manifest.version = *text;
    if (!IsSemVer(*text)) {
      diagnostics.Error(
          version->place,
          absl::StrCat("must be a version of three numbers such as 1.4.0 or 2.0.0-rc.1 "
                       "(SemVer 2.0.0); it is ",
                       Quoted(*text)));
    }
  }
  manifest.icon = CheckRelativePath(section.Find("icon"), diagnostics);
}

void ReadRuntime(Section& app, Manifest& manifest) {
  const auto value = app.Find("runtime");
  if (!value) {
    return;
  }
  Diagnostics& diagnostics = app.diagnostics();
  Section section(*value, "{mode: native}", diagnostics);
  if (const auto mode = section.Find("mode")) {
    manifest.mode = ReadChoice(*mode, {"native", "compose"}, diagnostics).value_or(0) == 0
                        ? RuntimeMode::kNative
                        : RuntimeMode::kCompose;
  }
  if (manifest.mode == RuntimeMode::kCompose) {
    manifest.compose_file =
        CheckRelativePath(section.Require("composeFile", "composeFile: compose.yaml"), diagnostics);
  } else if (const auto file = section.Find("composeFile")) {
    diagnostics.Warning(file->place, "is ignored: it is read with `mode: compose` only");
  }
  section.RefuseUnknownKeys();
}

std::vector<ReadService> ReadServicesKey(Section& app, const Manifest& manifest) {
  Diagnostics& diagnostics = app.diagnostics();
  if (manifest.mode == RuntimeMode::kCompose) {
    if (const auto ignored = app.Find("services")) {
      diagnostics.Warning(
          ignored->place,
          "is ignored: with `mode: compose` the services come from the Compose file");
    }
    return {};
  }
  const auto services = app.Require("services", "services: [{name: web, image: nginx}]");
  return services ? ReadServices(*services, diagnostics) : std::vector<ReadService>();
}

std::vector<Volume> ReadVolumes(const Value& value, Diagnostics& diagnostics) {
  std::vector<Volume> volumes;
  std::set<std::string> names;
  for (const Value& item : ReadList(value, kMaxVolumes, "[{name: data}]", diagnostics)) {
    Section section(item, "{name: data, consistency: sqlite}", diagnostics);
    Volume volume;
    const auto name = section.Require("name", "name: data");
    if (const auto text = TextOf(name, kMaxVolumeName, diagnostics)) {
      volume.name = *text;
      if (!IsVolumeName(*text)) {
        diagnostics.Error(name->place,
                          absl::StrCat("a volume's name is made of letters, digits and _ . -, and "
                                       "starts with a letter or digit; not ",
                                       Quoted(*text)));
      } else if (!names.insert(*text).second) {
        diagnostics.Error(name->place, absl::StrCat("two volumes are called ", Quoted(*text)));
      }
    }
    if (const auto consistency = section.Find("consistency")) {
      constexpr Consistency kValues[] = {Consistency::kGeneric, Consistency::kSqlite,
                                         Consistency::kPostgres};
      volume.consistency =
          kValues[ReadChoice(*consistency, {"generic", "sqlite", "postgres"}, diagnostics)
                      .value_or(0)];
    }
    section.RefuseUnknownKeys();
    volumes.push_back(std::move(volume));
  }
  return volumes;
}

State ReadState(Section& app) {
  State state;
  const auto value = app.Find("state");
  if (!value) {
    return state;
  }
  Section section(*value, "{volumes: [{name: data}]}", app.diagnostics());
  ReadBoolKey(section, "autosave", state.autosave);
  ReadWholeKey(section, "autosaveDebounceSeconds", 0, kMaxDebounceSeconds,
               state.autosave_debounce_seconds);
  if (const auto retention = section.Find("retention")) {
    Section inner(*retention, "{maxSnapshots: 100}", app.diagnostics());
    ReadWholeKey(inner, "maxSnapshots", 1, kMaxMaxSnapshots, state.max_snapshots);
    inner.RefuseUnknownKeys();
  }
  if (const auto volumes = section.Find("volumes")) {
    state.volumes = ReadVolumes(*volumes, app.diagnostics());
  }
  section.RefuseUnknownKeys();
  return state;
}

void ReadSecurity(Section& app, Manifest& manifest) {
  if (const auto value = app.Find("security")) {
    Section section(*value, "{network: true}", app.diagnostics());
    ReadBoolKey(section, "network", manifest.network);
    ReadBoolKey(section, "allowHostFileImport", manifest.allow_host_file_import);
    section.RefuseUnknownKeys();
  }
}

Secret ReadSecret(const Value& value, std::set<std::string>& names, Diagnostics& diagnostics) {
  Section section(value, "{name: API_KEY, required: true}", diagnostics);
  Secret secret;
  const auto name = section.Require("name", "name: API_KEY");
  if (const auto text = TextOf(name, kMaxName, diagnostics)) {
    secret.name = *text;
    if (!IsVariableName(*text)) {
      diagnostics.Error(name->place,
                        absl::StrCat("a secret becomes a variable: its name is made of A-Z, 0-9 "
                                     "and _, and starts with no digit; not ",
                                     Quoted(*text)));
    } else if (!names.insert(*text).second) {
      diagnostics.Error(name->place, absl::StrCat("two secrets are called ", Quoted(*text)));
    } else if (std::any_of(text->begin(), text->end(), absl::ascii_islower)) {
      diagnostics.Warning(name->place, absl::StrCat("variables are usually written in upper case: ",
                                                    absl::AsciiStrToUpper(*text)));
    }
  }
  ReadBoolKey(section, "required", secret.required);
  if (const auto how = section.Find("howToObtain")) {
    secret.how_to_obtain =
        ReadText(*how, {.min = 0, .max = kMaxHowToObtain, .controls = true}, diagnostics)
            .value_or("");
  }
  section.RefuseUnknownKeys();
  return secret;
}

std::vector<Secret> ReadSecrets(Section& app) {
  std::vector<Secret> secrets;
  std::set<std::string> names;
  if (const auto value = app.Find("secrets")) {
    for (const Value& item :
         ReadList(*value, kMaxSecrets, "[{name: API_KEY}]", app.diagnostics())) {
      secrets.push_back(ReadSecret(item, names, app.diagnostics()));
    }
  }
  return secrets;
}

Ui ReadUi(Section& app) {
  Ui ui;
  if (const auto value = app.Find("ui")) {
    Section section(*value, "{showBackButton: true}", app.diagnostics());
    ReadBoolKey(section, "showBackButton", ui.show_back_button);
    ReadBoolKey(section, "showForwardButton", ui.show_forward_button);
    ReadBoolKey(section, "showReloadButton", ui.show_reload_button);
    ReadBoolKey(section, "showHomeButton", ui.show_home_button);
    section.RefuseUnknownKeys();
  }
  return ui;
}

std::optional<Publisher> ReadPublisher(Section& app) {
  const auto value = app.Find("publisher");
  if (!value) {
    return std::nullopt;
  }
  Diagnostics& diagnostics = app.diagnostics();
  Section section(*value, "{name: Example Ltd}", diagnostics);
  Publisher publisher;
  publisher.name = TextOf(section.Find("name"), kMaxName, diagnostics).value_or("");
  if (const auto signing = section.Find("signing")) {
    Section inner(*signing, "{scheme: ed25519}", diagnostics);
    publisher.signing_scheme = "ed25519";
    if (const auto scheme = inner.Find("scheme")) {
      ReadChoice(*scheme, {"ed25519"}, diagnostics);
    }
    publisher.signature_file = CheckRelativePath(inner.Find("signatureFile"), diagnostics);
    publisher.public_key_file = CheckRelativePath(inner.Find("publicKeyFile"), diagnostics);
    inner.RefuseUnknownKeys();
  }
  section.RefuseUnknownKeys();
  return publisher;
}

}  // namespace

ReadApp ReadAppDocument(const TreeNode& root, Diagnostics& diagnostics) {
  Section section({&root, {root.offset, ""}}, "{kind: vibe.app/v1}", diagnostics);
  ReadApp app;
  ReadIdentity(section, app.manifest);
  ReadRuntime(section, app.manifest);
  app.services = ReadServicesKey(section, app.manifest);
  app.manifest.state = ReadState(section);
  ReadSecurity(section, app.manifest);
  app.manifest.secrets = ReadSecrets(section);
  app.manifest.ui = ReadUi(section);
  app.manifest.publisher = ReadPublisher(section);
  section.RefuseUnknownKeys();
  return app;
}

}  // namespace vibe::manifest
