// Images made in memory, and a source that serves them and can be told to misbehave.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "images/images.h"
#include "oci/image.h"

namespace vibe::testing {

// A tar file of files: path without a leading slash to content. All are executable.
std::string MakeTar(const std::map<std::string, std::string>& files);

// Bytes that do not compress and that are the same for the same seed.
std::string Noise(size_t size, uint32_t seed);

struct TestImage {
  oci::Descriptor target;  // an index with one entry for this machine and one for another
  std::vector<oci::Descriptor> layers;
  std::string config_digest;
  std::map<std::string, std::string> blobs;  // by digest
};

// `tars`: the layers, lowest first. `wrong_diff_id`: the config lies about its last layer.
TestImage MakeImage(const std::vector<std::string>& tars, bool wrong_diff_id = false);

// One layer: the payload program at /payload.
TestImage PayloadImage();

// Serves one image to any number of sources. Thread-safe but for the settings, which are made
// before.
class ImageServer {
 public:
  explicit ImageServer(TestImage image) : image_(std::move(image)) {}

  images::SourceOpener opener();
  const TestImage& image() const { return image_; }

  // Settings.
  std::map<std::string, int64_t> fail_at;      // a blob's transfer breaks at this offset, once
  std::map<std::string, std::string> instead;  // other bytes for a blob
  std::function<void(const std::string& digest)> on_blob;

  // Counters.
  std::atomic<int> opened = 0;
  std::atomic<int> transfers = 0;  // of layers
  std::atomic<int64_t> bytes = 0;  // of layers
  std::atomic<int> parallel = 0, most_parallel = 0;

 private:
  class Source;
  TestImage image_;
};

}  // namespace vibe::testing
