#include "oci/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/sha256.h"
#include "base/status.h"

namespace vibe::oci {
namespace {

using ::testing::HasSubstr;

constexpr char kManifestType[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kLayerType[] = "application/vnd.oci.image.layer.v1.tar";

class LayoutTest : public ::testing::Test {
 protected:
  LayoutTest() {
    char name[] = "/tmp/vibe-layout-XXXXXX";
    root_ = ::mkdtemp(name);
  }
  ~LayoutTest() override { std::filesystem::remove_all(root_); }

  static void Write(const std::filesystem::path& path, const std::string& content) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << content;
  }

  // A layout whose only entry is `document`, under `ref_name`.
  Descriptor MakeLayout(const std::string& folder, const std::string& ref_name,
                        const std::string& document = "{}") {
    const Descriptor descriptor = AddBlob(folder, document);
    Write(root_ / folder / "oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
    Write(root_ / folder / "index.json",
          absl::StrCat(R"({"schemaVersion":2,"manifests":[{"mediaType":")", kManifestType,
                       R"(","digest":")", descriptor.digest, R"(","size":)", descriptor.size,
                       R"(,"annotations":{"org.opencontainers.image.ref.name":")", ref_name,
                       R"("}}]})"));
    return descriptor;
  }

  Descriptor AddBlob(const std::string& folder, const std::string& content) {
    const Descriptor descriptor{kManifestType, Sha256Digest(content),
                                static_cast<int64_t>(content.size())};
    Write(BlobPath(folder, descriptor), content);
    return descriptor;
  }

  std::filesystem::path BlobPath(const std::string& folder, const Descriptor& descriptor) const {
    return root_ / folder / "blobs" / "sha256" / descriptor.digest.substr(7);
  }

  absl::StatusOr<std::unique_ptr<ImageSource>> Open(const std::string& reference,
                                                    const std::string& folder = "") const {
    return OpenLayout(folder.empty() ? root_ : root_ / folder, ParseReference(reference).value());
  }

  std::filesystem::path root_;
};

std::string Collect(ImageSource& source, const Descriptor& descriptor, int64_t offset) {
  std::string all;
  const absl::Status status = source.ReadBlob(descriptor, offset, [&](absl::string_view bytes) {
    absl::StrAppend(&all, bytes);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return all;
}

TEST_F(LayoutTest, FindsAnImageByItsNameOrItsFolderAndTag) {
  const Descriptor web = MakeLayout("a", "localhost:5000/x/web:1", "1");
  const Descriptor postgres = MakeLayout("b", "postgres:15", "22");
  const Descriptor redis = MakeLayout("redis", "7", "333");
  EXPECT_EQ(Open("localhost:5000/x/web:1").value()->Resolve().value().digest, web.digest);
  EXPECT_EQ(Open("docker.io/library/postgres:15").value()->Resolve().value().digest,
            postgres.digest);
  EXPECT_EQ(Open("example.com/some/redis:7").value()->Resolve().value().digest, redis.digest);
  EXPECT_EQ(Open("r.io/any@" + redis.digest).value()->Resolve().value().digest, redis.digest);
  EXPECT_EQ(Open("redis:7", "redis").value()->Resolve().value().digest, redis.digest);
  EXPECT_EQ(Open("redis:7", "redis/").value()->Resolve().value().digest, redis.digest);
}

TEST_F(LayoutTest, AnotherTagRegistryOrFolderIsAnotherImage) {
  MakeLayout("b", "postgres:15");
  MakeLayout("redis", "7");
  for (const char* reference :
       {"postgres:16", "r.io/postgres:15", "redis:8", "x/b:7",
        "postgres@sha256:"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
    const absl::Status status = Open(reference).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << reference;
    EXPECT_EQ(ReasonOf(status), Reason::kImagePullFailed);
  }
  EXPECT_EQ(Open("redis:7", "no-such-folder").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(LayoutTest, ReadsDocumentsAndBlobs) {
  const Descriptor manifest = MakeLayout("x", "1", "{\"a\":1}");
  std::string large(3'000'000, 'l');
  large[1'999'999] = 'L';
  Descriptor layer = AddBlob("x", large);
  layer.media_type = kLayerType;
  const auto source = Open("x:1").value();
  EXPECT_EQ(source->ReadDocument(manifest).value(), "{\"a\":1}");
  EXPECT_TRUE(Collect(*source, layer, 0) == large);
  EXPECT_TRUE(Collect(*source, layer, 1'999'999) == large.substr(1'999'999));
  EXPECT_EQ(Collect(*source, layer, layer.size), "");
}

TEST_F(LayoutTest, TheSinksErrorComesBack) {
  const Descriptor blob = MakeLayout("x", "1", "content");
  const auto source = Open("x:1").value();
  const absl::Status mine = absl::CancelledError("enough");
  EXPECT_EQ(source->ReadBlob(blob, 0, [&](absl::string_view) { return mine; }), mine);
}

TEST_F(LayoutTest, WrongContentIsNoticed) {
  const Descriptor manifest = MakeLayout("x", "1", "{\"a\":1}");
  Write(BlobPath("x", manifest), "{\"a\":2}");
  const absl::Status status = Open("x:1").value()->ReadDocument(manifest).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ReasonOf(status), Reason::kImagePullFailed);
}

TEST_F(LayoutTest, WrongSizesAreNoticedBeforeAByteIsGiven) {
  const Descriptor blob = MakeLayout("x", "1", "content");
  const auto source = Open("x:1").value();
  Write(BlobPath("x", blob), "content and more");
  EXPECT_EQ(source
                ->ReadBlob(blob, 0,
                           [](absl::string_view) {
                             ADD_FAILURE() << "bytes of the wrong blob";
                             return absl::OkStatus();
                           })
                .code(),
            absl::StatusCode::kDataLoss);
  std::filesystem::remove(BlobPath("x", blob));
  EXPECT_EQ(source->ReadDocument(blob).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(LayoutTest, SymlinksAreRefusedEverywhere) {
  const Descriptor blob = MakeLayout("x", "1", "content");
  const Descriptor outside = AddBlob("outside", "content");
  const auto link = [&](const std::filesystem::path& at, const std::filesystem::path& to) {
    std::filesystem::remove_all(at);
    std::filesystem::create_symlink(to, at);
  };
  const auto source = Open("x:1").value();
  link(BlobPath("x", blob), BlobPath("outside", outside));
  EXPECT_EQ(source->ReadDocument(blob).status().code(), absl::StatusCode::kDataLoss);
  link(root_ / "x" / "blobs" / "sha256", root_ / "outside" / "blobs" / "sha256");
  EXPECT_EQ(source->ReadDocument(blob).status().code(), absl::StatusCode::kDataLoss);
  link(root_ / "x" / "blobs", root_ / "outside" / "blobs");
  EXPECT_EQ(source->ReadDocument(blob).status().code(), absl::StatusCode::kDataLoss);

  MakeLayout("y", "1");
  std::filesystem::rename(root_ / "y" / "index.json", root_ / "real.json");
  link(root_ / "y" / "index.json", root_ / "real.json");
  EXPECT_EQ(Open("y:1").status().code(), absl::StatusCode::kDataLoss);

  MakeLayout("z", "1");
  std::filesystem::rename(root_ / "z", root_ / "hidden");
  link(root_ / "z", root_ / "hidden");
  EXPECT_FALSE(Open("z:1").ok());
  EXPECT_FALSE(Open("z:1", "z").ok());
  EXPECT_FALSE(Open("z:1", "z/").ok());
}

TEST_F(LayoutTest, AFifoIsNoFile) {
  const Descriptor blob = MakeLayout("x", "1", "content");
  std::filesystem::remove(BlobPath("x", blob));
  ASSERT_EQ(::mkfifo(BlobPath("x", blob).c_str(), 0600), 0);
  EXPECT_EQ(Open("x:1").value()->ReadDocument(blob).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(LayoutTest, DigestsCannotLeaveTheFolder) {
  MakeLayout("x", "1");
  Write(root_ / "secret", "secret");
  const auto source = Open("x:1").value();
  for (const char* digest : {"sha256:../../../secret", "../../secret", "sha256:", ""}) {
    const Descriptor descriptor{kManifestType, digest, 6};
    EXPECT_FALSE(source->ReadDocument(descriptor).ok()) << digest;
  }
}

TEST_F(LayoutTest, ABrokenLayoutIsSaidSoUnlessAnotherHasTheImage) {
  MakeLayout("bad", "1");
  Write(root_ / "bad" / "index.json", "{");
  EXPECT_EQ(Open("x:1").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(Open("x:1").status().message()), HasSubstr("bad"));
  MakeLayout("x", "1");
  EXPECT_TRUE(Open("x:1").ok());
  Write(root_ / "x" / "oci-layout", R"({"imageLayoutVersion":"2.0.0"})");
  EXPECT_FALSE(Open("x:1").ok());
}

TEST_F(LayoutTest, AnEntryThatIsNoImageIsRefused) {
  MakeLayout("x", "1");
  Write(root_ / "x" / "index.json",
        absl::StrCat(
            R"({"schemaVersion":2,"manifests":[{"mediaType":"text/plain","size":1,"digest":")",
            Sha256Digest("x"), R"(","annotations":{"org.opencontainers.image.ref.name":"1"}}]})"));
  EXPECT_EQ(Open("x:1").status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace vibe::oci
