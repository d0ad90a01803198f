#include "oci/registry.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/sha256.h"
#include "base/status.h"
#include "oci/image_json.h"
#include "oci/json.h"
#include "oci/registry_http.h"

namespace vibe::oci {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(250);
constexpr absl::Duration kMaxBackoff = absl::Seconds(10);
constexpr absl::Duration kDocumentTime = absl::Minutes(5);
constexpr int64_t kProgress = 1 << 20;  // bytes that make an attempt count as one that got on
constexpr size_t kMaxErrorBody = 16 << 10;
constexpr char kAcceptManifests[] =
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json";

struct Document {
  std::string body;
  std::string media_type;
  std::string digest;  // as the registry states it; may be empty
};

// "MANIFEST_UNKNOWN" from an error document. Only the code is taken: the text is the server's own.
std::string ErrorCode(absl::string_view body) {
  const absl::StatusOr<nlohmann::json> json = ParseObject(body, "the error");
  if (!json.ok() || !Member(*json, "errors").is_array() || Member(*json, "errors").empty()) {
    return {};
  }
  absl::StatusOr<std::string> code = StringMember(Member(*json, "errors")[0], "code", 64);
  const bool usable = code.ok() && std::all_of(code->begin(), code->end(), [](unsigned char c) {
                        return absl::ascii_isupper(c) || c == '_';
                      });
  return usable ? *code : std::string();
}

// "bytes FIRST-LAST/TOTAL". The total may be "*", given here as -1.
struct ContentRange {
  int64_t first = 0;
  int64_t last = 0;
  int64_t total = -1;
};

std::optional<ContentRange> ParseContentRange(absl::string_view text) {
  ContentRange range;
  if (!absl::ConsumePrefix(&text, "bytes ")) {
    return std::nullopt;
  }
  const std::vector<absl::string_view> halves = absl::StrSplit(text, '/');
  if (halves.size() != 2) {
    return std::nullopt;
  }
  const std::vector<absl::string_view> bounds = absl::StrSplit(halves[0], '-');
  if (bounds.size() != 2 || !absl::SimpleAtoi(bounds[0], &range.first) ||
      !absl::SimpleAtoi(bounds[1], &range.last) ||
      (halves[1] != "*" && !absl::SimpleAtoi(halves[1], &range.total))) {
    return std::nullopt;
  }
  return range;
}

bool IsTransient(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

absl::string_view AdviceFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return "check the image's name and tag";
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return "check the image's name; a private image needs a login that may read it";
    case absl::StatusCode::kDataLoss:
      return "try again; if it stays so, the registry or something between it and you is broken";
    case absl::StatusCode::kFailedPrecondition:
      return "check the registry's address and certificate";
    default:
      return "check that the registry runs, its address and the network, then try again";
  }
}

class RegistrySource : public ImageSource {
 public:
  RegistrySource(const Reference& reference, const RegistryOptions& options)
      : reference_(reference), options_(options), http_(reference, options) {}

  absl::StatusOr<Descriptor> Resolve() override {
    const absl::StatusOr<Descriptor> descriptor = ResolveOnce();
    return descriptor.ok() ? descriptor : Describe(descriptor.status());
  }

  absl::StatusOr<std::string> ReadDocument(const Descriptor& descriptor) override {
    if (resolved_.first == descriptor.digest && !resolved_.first.empty()) {
      return resolved_.second;
    }
    absl::StatusOr<std::string> document = FetchDocument(descriptor);
    return document.ok() ? std::move(document) : Describe(document.status());
  }

  absl::Status ReadBlob(const Descriptor& descriptor, int64_t offset,
                        const ByteSink& sink) override {
    if (!IsDigest(descriptor.digest) || offset < 0 || offset > descriptor.size) {
      return absl::InvalidArgumentError("no such range of a blob");
    }
    Transfer transfer{descriptor, offset, sink, absl::OkStatus()};
    const absl::Status status = WithRetries([&] {
      const int64_t before = transfer.position;
      const absl::Status attempt = FetchBlob(transfer);
      return std::make_pair(attempt, transfer.position - before >= kProgress);
    });
    return transfer.sink_error.ok() ? Describe(status) : transfer.sink_error;
  }

 private:
  struct Transfer {
    const Descriptor& descriptor;
    int64_t position;  // bytes before it have reached the sink, or were not asked for
    const ByteSink& sink;
    absl::Status sink_error;
  };

  // Runs `attempt`, which returns its status and whether it got on, until it succeeds, fails for
  // good, or fails too often without getting on.
  template <typename Attempt>
  absl::Status WithRetries(const Attempt& attempt) {
    absl::Duration backoff = kFirstBackoff;
    for (int failures = 0;;) {
      retry_after_ = absl::ZeroDuration();
      const auto [status, progress] = attempt();
      if (status.ok() || !IsTransient(status)) {
        return status;
      }
      if (progress) {
        failures = 0;
        backoff = kFirstBackoff;
      }
      if (++failures >= options_.attempts) {
        return status;
      }
      absl::SleepFor(std::min(std::max(backoff, retry_after_), kMaxBackoff));
      backoff *= 2;
    }
  }

  absl::StatusOr<Descriptor> ResolveOnce() {
    const std::string& name = reference_.digest.empty() ? reference_.tag : reference_.digest;
    VIBE_ASSIGN_OR_RETURN(Document document, GetDocument("manifests", name, "no such image"));
    Descriptor descriptor;
    descriptor.digest = Sha256Digest(document.body);
    descriptor.size = static_cast<int64_t>(document.body.size());
    descriptor.media_type = document.media_type;
    const std::string& expected = reference_.digest.empty() ? document.digest : reference_.digest;
    if (IsDigest(expected) && expected != descriptor.digest) {
      return WrongDigest(expected);
    }
    if (!IsIndex(descriptor.media_type) && !IsManifest(descriptor.media_type)) {
      descriptor.media_type = GuessMediaType(document.body);
    }
    if (descriptor.media_type.empty()) {
      return absl::DataLossError("what the registry has under this name is not an image");
    }
    resolved_ = {descriptor.digest, std::move(document.body)};
    return descriptor;
  }

  absl::StatusOr<std::string> FetchDocument(const Descriptor& descriptor) {
    if (!IsDigest(descriptor.digest) || descriptor.size < 0 ||
        descriptor.size > static_cast<int64_t>(kMaxDocument)) {
      return absl::DataLossError("a document of the image is too large, or has no usable digest");
    }
    const bool manifest = IsIndex(descriptor.media_type) || IsManifest(descriptor.media_type);
    VIBE_ASSIGN_OR_RETURN(
        Document document,
        GetDocument(manifest ? "manifests" : "blobs", descriptor.digest,
                    absl::StrCat("the registry has lost its part ", descriptor.digest)));
    if (static_cast<int64_t>(document.body.size()) != descriptor.size ||
        Sha256Digest(document.body) != descriptor.digest) {
      return WrongDigest(descriptor.digest);
    }
    return std::move(document.body);
  }

  absl::StatusOr<Document> GetDocument(absl::string_view kind, absl::string_view name,
                                       absl::string_view missing) {
    Document document;
    const absl::Status status = WithRetries([&] {
      const absl::Status attempt = GetDocumentOnce(kind, name, missing, document);
      return std::make_pair(attempt, false);
    });
    VIBE_RETURN_IF_ERROR(status);
    return document;
  }

  absl::Status GetDocumentOnce(absl::string_view kind, absl::string_view name,
                               absl::string_view missing, Document& document) {
    const std::string accept = kind == "manifests" ? kAcceptManifests : "*/*";
    VIBE_ASSIGN_OR_RETURN(Answer answer, http_.Get(Path(kind, name), {{"Accept", accept}}));
    answer.connection->SetTimeLimit(kDocumentTime);
    if (answer.head.status != 200) {
      return StatusFailure(answer, missing);
    }
    absl::StatusOr<std::string> body = answer.connection->ReadBody(kMaxDocument);
    if (absl::IsResourceExhausted(body.status())) {
      return absl::DataLossError("a document of the image is larger than 8 MiB");
    }
    VIBE_RETURN_IF_ERROR(Annotate(body.status(), Name()));
    document.body = *std::move(body);
    const absl::string_view type = http::HeaderValue(answer.head.headers, "Content-Type");
    document.media_type = std::string(absl::StripAsciiWhitespace(type.substr(0, type.find(';'))));
    document.digest = std::string(http::HeaderValue(answer.head.headers, "Docker-Content-Digest"));
    http_.Keep(std::move(answer));
    return absl::OkStatus();
  }

  // One request for all that is still missing of a blob.
  absl::Status FetchBlob(Transfer& transfer) {
    const Descriptor& descriptor = transfer.descriptor;
    if (transfer.position == descriptor.size) {
      return absl::OkStatus();
    }
    http::Headers headers{{"Accept", "*/*"}};
    if (transfer.position > 0) {
      headers.emplace_back("Range", absl::StrCat("bytes=", transfer.position, "-"));
    }
    VIBE_ASSIGN_OR_RETURN(Answer answer, http_.Get(Path("blobs", descriptor.digest), headers));
    answer.connection->SetTimeLimit(absl::InfiniteDuration());
    if (answer.head.status != 200 && (answer.head.status != 206 || transfer.position == 0)) {
      answer.connection->SetTimeLimit(kDocumentTime);
      return StatusFailure(answer,
                           absl::StrCat("the registry has lost its layer ", descriptor.digest));
    }
    VIBE_RETURN_IF_ERROR(CheckLengths(answer.head, transfer));
    // A server that knows no ranges starts over; the bytes that are here already are passed over.
    int64_t skip = answer.head.status == 200 ? transfer.position : 0;
    const http::BodySink take = [&](absl::string_view bytes) -> absl::Status {
      const int64_t skipped = std::min<int64_t>(skip, bytes.size());
      skip -= skipped;
      bytes.remove_prefix(static_cast<size_t>(skipped));
      if (static_cast<int64_t>(bytes.size()) > descriptor.size - transfer.position) {
        return absl::DataLossError(
            absl::StrCat("layer ", descriptor.digest, " is longer than it should be"));
      }
      if (bytes.empty()) {
        return absl::OkStatus();
      }
      transfer.sink_error = transfer.sink(bytes);
      if (!transfer.sink_error.ok()) {
        // Any code that is not transient ends the transfer; the caller returns the sink's own
        // error.
        return absl::AbortedError("the receiver failed");
      }
      transfer.position += static_cast<int64_t>(bytes.size());
      return absl::OkStatus();
    };
    VIBE_RETURN_IF_ERROR(Annotate(answer.connection->ReadBody(take), Name()));
    if (transfer.position != descriptor.size) {
      return absl::UnavailableError(absl::StrCat("the registry gave only ", transfer.position,
                                                 " of ", descriptor.size, " bytes of layer ",
                                                 descriptor.digest));
    }
    http_.Keep(std::move(answer));
    return absl::OkStatus();
  }

  static absl::Status CheckLengths(const http::Response& head, const Transfer& transfer) {
    const int64_t size = transfer.descriptor.size;
    const int64_t expected = head.status == 206 ? size - transfer.position : size;
    const absl::string_view length = http::HeaderValue(head.headers, "Content-Length");
    int64_t stated = 0;
    if (!length.empty() && (!absl::SimpleAtoi(length, &stated) || stated != expected)) {
      return absl::DataLossError(absl::StrCat("layer ", transfer.descriptor.digest,
                                              " has another length in "
                                              "the registry than in the image's manifest"));
    }
    if (head.status == 206) {
      const auto range = ParseContentRange(http::HeaderValue(head.headers, "Content-Range"));
      if (!range || range->first != transfer.position || range->last != size - 1 ||
          (range->total != -1 && range->total != size)) {
        return absl::DataLossError("the registry answers with another range than was asked for");
      }
    }
    return absl::OkStatus();
  }

  // What an answer with an unwelcome status means.
  absl::Status StatusFailure(Answer& answer, absl::string_view missing) {
    const int status = answer.head.status;
    const absl::StatusOr<std::string> body = answer.connection->ReadBody(kMaxErrorBody);
    const std::string code = body.ok() ? ErrorCode(*body) : std::string();
    std::string text = absl::StrCat(Name(), " answered ", status);
    if (!code.empty()) {
      absl::StrAppend(&text, " ", code);
    }
    int64_t seconds = 0;
    if (absl::SimpleAtoi(http::HeaderValue(answer.head.headers, "Retry-After"), &seconds)) {
      retry_after_ = absl::Seconds(std::clamp<int64_t>(seconds, 0, 3600));
    }
    if (body.ok()) {
      http_.Keep(std::move(answer));
    }
    switch (status) {
      case 401:
        return absl::UnauthenticatedError("no such image, or it needs a login");
      case 403:
        return absl::PermissionDeniedError("the registry does not let us read this image");
      case 404:
        return absl::NotFoundError(missing);
      case 429:
        return absl::UnavailableError(absl::StrCat(text, " (too many requests)"));
      case 500:
      case 502:
      case 503:
      case 504:
        return absl::UnavailableError(text);
      default:
        return absl::InternalError(text);
    }
  }

  static absl::Status WrongDigest(absl::string_view digest) {
    return absl::DataLossError(
        absl::StrCat("the registry gave other bytes than ", digest, " stands for"));
  }

  std::string Name() const { return absl::StrCat("registry ", reference_.registry); }

  std::string Path(absl::string_view kind, absl::string_view name) const {
    return absl::StrCat("/v2/", reference_.repository, "/", kind, "/", name);
  }

  // The error as the caller sees it: with the reference, the reason and advice, in one of the codes
  // that the header promises.
  absl::Status Describe(const absl::Status& status) const {
    if (status.ok()) {
      return status;
    }
    absl::StatusCode code = status.code();
    switch (code) {
      case absl::StatusCode::kNotFound:
      case absl::StatusCode::kUnauthenticated:
      case absl::StatusCode::kPermissionDenied:
      case absl::StatusCode::kDataLoss:
        break;
      default:
        code = absl::StatusCode::kUnavailable;
    }
    return WithAdvice(Error(code, Reason::kImagePullFailed,
                            absl::StrCat(reference_.ToString(), ": ", status.message())),
                      AdviceFor(status));
  }

  const Reference reference_;
  const RegistryOptions options_;
  RegistryHttp http_;
  absl::Duration retry_after_;                    // what the last refusal asked for
  std::pair<std::string, std::string> resolved_;  // digest and bytes of what Resolve fetched
};

}  // namespace

std::unique_ptr<ImageSource> OpenRegistry(const Reference& reference,
                                          const RegistryOptions& options) {
  return std::make_unique<RegistrySource>(reference, options);
}

}  // namespace vibe::oci
