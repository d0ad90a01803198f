#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "manifest/parse.h"
#include "manifest/quantity.h"

namespace vibe::manifest {
namespace {

using Json = nlohmann::ordered_json;

// Leaves out what is empty: objects, lists and texts.
void Put(Json& object, const char* key, Json value) {
  const bool is_empty_text = value.is_string() && value.get_ref<const std::string&>().empty();
  if (!is_empty_text && !(value.is_structured() && value.empty()) && !value.is_null()) {
    object[key] = std::move(value);
  }
}

template <typename T>
void PutUnless(Json& object, const char* key, const T& value, const T& standard) {
  if (value != standard) {
    object[key] = value;
  }
}

Json ToValue(const Port& port);
Json ToValue(const Mount& mount);
Json ToValue(const Service& service);
Json ToValue(const Volume& volume);
Json ToValue(const Secret& secret);

template <typename T>
Json ToArray(const std::vector<T>& values) {
  Json array = Json::array();
  for (const T& value : values) {
    array.push_back(ToValue(value));
  }
  return array;
}

Json ToValue(const Port& port) {
  Json json = {{"container", port.container}};
  if (port.host_exposure == Exposure::kNone) {
    json["hostExposure"] = "none";
  }
  if (port.protocol == Protocol::kUdp) {
    json["protocol"] = "udp";
  }
  return json;
}

Json ToValue(const Mount& mount) {
  return {{"source", mount.volume}, {"target", mount.target}};
}

Json ToValue(const Healthcheck& check) {
  const Healthcheck standard;
  Json json = {{"test", check.test}};
  const auto put_duration = [&](const char* key, int64_t value, int64_t standard_value) {
    if (value != standard_value) {
      json[key] = DurationText(value);
    }
  };
  put_duration("interval", check.interval_ms, standard.interval_ms);
  put_duration("timeout", check.timeout_ms, standard.timeout_ms);
  PutUnless(json, "retries", check.retries, standard.retries);
  put_duration("startPeriod", check.start_period_ms, standard.start_period_ms);
  return json;
}

Json ToValue(const Hooks& hooks) {
  const auto put = [](Json& json, const char* key, const std::optional<Hook>& hook) {
    if (hook) {
      json[key] = {{"command", hook->command}};
      if (hook->timeout_ms != Hook().timeout_ms) {
        json[key]["timeout"] = DurationText(hook->timeout_ms);
      }
    }
  };
  Json json = Json::object();
  put(json, "preSave", hooks.pre_save);
  put(json, "postRestore", hooks.post_restore);
  return json;
}

const char* RestartName(Restart restart) {
  switch (restart) {
    case Restart::kNo:
      return "no";
    case Restart::kAlways:
      return "always";
    case Restart::kOnFailure:
      break;
  }
  return "";  // the default
}

Json ToValue(const Service& service) {
  Json json = Json::object();
  json["name"] = service.name;
  Put(json, "aliases", service.aliases);
  json["image"] = service.image;
  Put(json, "entrypoint", service.entrypoint);
  Put(json, "command", service.command);
  Put(json, "env", service.env);
  Put(json, "ports", ToArray(service.ports));
  Put(json, "mounts", ToArray(service.mounts));
  Put(json, "dependsOn", service.depends_on);
  if (service.healthcheck) {
    json["healthcheck"] = ToValue(*service.healthcheck);
  }
  Put(json, "hooks", ToValue(service.hooks));
  Put(json, "workingDir", service.working_dir);
  Put(json, "user", service.user);
  Put(json, "restart", RestartName(service.restart));
  Json resources = Json::object();
  PutUnless(resources, "cpus", service.resources.cpus, 0.0);
  PutUnless(resources, "memory", service.resources.memory_bytes, int64_t{0});
  Put(json, "resources", std::move(resources));
  Put(json, "tmpfs", service.tmpfs);
  return json;
}

Json ToValue(const Volume& volume) {
  Json json = {{"name", volume.name}};
  if (volume.consistency != Consistency::kGeneric) {
    json["consistency"] = volume.consistency == Consistency::kSqlite ? "sqlite" : "postgres";
  }
  return json;
}

Json ToValue(const State& state) {
  const State standard;
  Json json = Json::object();
  PutUnless(json, "autosave", state.autosave, standard.autosave);
  PutUnless(json, "autosaveDebounceSeconds", state.autosave_debounce_seconds,
            standard.autosave_debounce_seconds);
  if (state.max_snapshots != standard.max_snapshots) {
    json["retention"] = {{"maxSnapshots", state.max_snapshots}};
  }
  Put(json, "volumes", ToArray(state.volumes));
  return json;
}

Json ToValue(const Secret& secret) {
  Json json = {{"name", secret.name}};
  PutUnless(json, "required", secret.required, false);
  Put(json, "howToObtain", secret.how_to_obtain);
  return json;
}

Json ToValue(const Ui& ui) {
  Json json = Json::object();
  PutUnless(json, "showBackButton", ui.show_back_button, false);
  PutUnless(json, "showForwardButton", ui.show_forward_button, false);
  PutUnless(json, "showReloadButton", ui.show_reload_button, false);
  PutUnless(json, "showHomeButton", ui.show_home_button, false);
  return json;
}

Json ToValue(const Publisher& publisher) {
  Json signing = Json::object();
  Put(signing, "scheme", publisher.signing_scheme);
  Put(signing, "signatureFile", publisher.signature_file);
  Put(signing, "publicKeyFile", publisher.public_key_file);
  Json json = Json::object();
  Put(json, "name", publisher.name);
  Put(json, "signing", std::move(signing));
  return json;
}

}  // namespace

std::string ToJson(const Manifest& manifest) {
  Json json = Json::object();
  json["kind"] = "vibe.app/v1";
  json["id"] = manifest.id;
  json["name"] = manifest.name;
  json["version"] = manifest.version;
  Put(json, "icon", manifest.icon);
  if (manifest.mode == RuntimeMode::kCompose) {
    json["runtime"] = {{"mode", "compose"}, {"composeFile", manifest.compose_file}};
  }
  Put(json, "services", ToArray(manifest.services));
  Put(json, "state", ToValue(manifest.state));
  Json security = Json::object();
  PutUnless(security, "network", manifest.network, false);
  PutUnless(security, "allowHostFileImport", manifest.allow_host_file_import, false);
  Put(json, "security", std::move(security));
  Put(json, "secrets", ToArray(manifest.secrets));
  Put(json, "ui", ToValue(manifest.ui));
  if (manifest.publisher) {
    json["publisher"] = ToValue(*manifest.publisher);  // also without a name: it is there
  }
  // Text that is no UTF-8 must not end the program.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace vibe::manifest
