#include "test_image.h"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "base/sha256.h"
#include "base/status.h"

namespace vibe::testing {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kIndexType[] = "application/vnd.oci.image.index.v1+json";
constexpr char kManifestType[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kConfigType[] = "application/vnd.oci.image.config.v1+json";
constexpr char kLayerType[] = "application/vnd.oci.image.layer.v1.tar";

std::string TarHeader(const std::string& path, size_t size) {
  std::string header(512, '\0');
  std::snprintf(&header[0], 100, "%s", path.c_str());
  std::snprintf(&header[100], 8, "%07o", 0755);
  std::snprintf(&header[108], 8, "%07o", 0);
  std::snprintf(&header[116], 8, "%07o", 0);
  std::snprintf(&header[124], 12, "%011zo", size);
  std::snprintf(&header[136], 12, "%011o", 0);
  std::memset(&header[148], ' ', 8);
  header[156] = '0';
  std::memcpy(&header[257], "ustar\00000", 8);
  unsigned sum = 0;
  for (const char c : header) {
    sum += static_cast<unsigned char>(c);
  }
  std::snprintf(&header[148], 8, "%06o", sum);
  return header;
}

oci::Descriptor Add(TestImage& image, const std::string& media_type, const std::string& bytes) {
  const std::string digest = Sha256Digest(bytes);
  image.blobs[digest] = bytes;
  return {.media_type = media_type, .digest = digest, .size = static_cast<int64_t>(bytes.size())};
}

Json ToJson(const oci::Descriptor& descriptor) {
  return {{"mediaType", descriptor.media_type},
          {"digest", descriptor.digest},
          {"size", descriptor.size}};
}

}  // namespace

std::string MakeTar(const std::map<std::string, std::string>& files) {
  std::string tar;
  for (const auto& [path, content] : files) {
    tar += TarHeader(path, content.size()) + content;
    tar.resize((tar.size() + 511) / 512 * 512, '\0');
  }
  return tar + std::string(1024, '\0');
}

std::string Noise(size_t size, uint32_t seed) {
  std::mt19937 generator(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) {
    byte = static_cast<char>(generator());
  }
  return bytes;
}

TestImage MakeImage(const std::vector<std::string>& tars, bool wrong_diff_id) {
  const oci::Platform host = oci::HostPlatform();
  TestImage image;
  Json manifest = {{"schemaVersion", 2}, {"mediaType", kManifestType}};
  Json diff_ids = Json::array();
  Json layers = Json::array();
  for (const std::string& tar : tars) {
    image.layers.push_back(Add(image, kLayerType, tar));
    layers.push_back(ToJson(image.layers.back()));
    diff_ids.push_back(image.layers.back().digest);
  }
  if (wrong_diff_id) {
    diff_ids.back() = Sha256Digest("something else");
  }
  const Json config = {
      {"architecture", host.architecture},
      {"os", host.os},
      {"config", {{"Cmd", {"/payload", "exit", "0"}}, {"Env", {"PATH=/"}}, {"WorkingDir", "/"}}},
      {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}};
  const oci::Descriptor config_blob = Add(image, kConfigType, config.dump());
  image.config_digest = config_blob.digest;
  manifest["config"] = ToJson(config_blob);
  manifest["layers"] = layers;
  Json entry = ToJson(Add(image, kManifestType, manifest.dump()));
  entry["platform"] = {{"architecture", host.architecture}, {"os", host.os}};
  Json other = ToJson({kManifestType, Sha256Digest("of another machine"), 10});
  other["platform"] = {{"architecture", "s390x"}, {"os", "linux"}};
  const Json index = {
      {"schemaVersion", 2}, {"mediaType", kIndexType}, {"manifests", {other, entry}}};
  image.target = Add(image, kIndexType, index.dump());
  return image;
}

TestImage PayloadImage() {
  std::ifstream file(VIBE_TEST_PAYLOAD, std::ios::binary);
  std::stringstream program;
  program << file.rdbuf();
  return MakeImage({MakeTar({{"payload", program.str()}})});
}

class ImageServer::Source : public oci::ImageSource {
 public:
  explicit Source(ImageServer& server) : server_(server) {}

  absl::StatusOr<oci::Descriptor> Resolve() override { return server_.image_.target; }

  absl::StatusOr<std::string> ReadDocument(const oci::Descriptor& descriptor) override {
    const auto found = server_.image_.blobs.find(descriptor.digest);
    if (found == server_.image_.blobs.end()) {
      return absl::NotFoundError(absl::StrCat("no ", descriptor.digest));
    }
    return found->second;
  }

  absl::Status ReadBlob(const oci::Descriptor& descriptor, int64_t offset,
                        const oci::ByteSink& sink) override {
    const int now = ++server_.parallel;
    for (int most = server_.most_parallel; now > most;) {
      server_.most_parallel.compare_exchange_weak(most, now);
    }
    const absl::Status status = Send(descriptor, offset, sink);
    --server_.parallel;
    return status;
  }

 private:
  absl::Status Send(const oci::Descriptor& descriptor, int64_t offset, const oci::ByteSink& sink) {
    ++server_.transfers;
    if (server_.on_blob) {
      server_.on_blob(descriptor.digest);
    }
    const auto other = server_.instead.find(descriptor.digest);
    const std::string& bytes =
        other != server_.instead.end() ? other->second : server_.image_.blobs.at(descriptor.digest);
    const auto fail = server_.fail_at.find(descriptor.digest);
    const bool fails = fail != server_.fail_at.end() && offset < fail->second;
    const size_t end = fails ? static_cast<size_t>(fail->second) : bytes.size();
    for (auto at = static_cast<size_t>(offset); at < end;) {
      const size_t count = std::min<size_t>(end - at, 64 << 10);
      VIBE_RETURN_IF_ERROR(sink(absl::string_view(bytes).substr(at, count)));
      server_.bytes += static_cast<int64_t>(count);
      at += count;
    }
    return fails ? absl::UnavailableError("the connection broke") : absl::OkStatus();
  }

  ImageServer& server_;
};

images::SourceOpener ImageServer::opener() {
  return [this](const oci::Reference&) -> absl::StatusOr<std::unique_ptr<oci::ImageSource>> {
    ++opened;
    return std::make_unique<Source>(*this);
  };
}

}  // namespace vibe::testing
