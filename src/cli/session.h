// What all commands work with: where Vibe's files are, what the streams are connected to, and how a
// call to vibed is made and shown. Belongs to the main thread.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cli/api_client.h"
#include "cli/daemon.h"
#include "cli/definitions.h"
#include "cli/json_fields.h"
#include "cli/progress_display.h"
#include "cli/project.h"
#include "cli/screen.h"

namespace vibe::cli {

class Session {
 public:
  // InvalidArgument when no home can be found.
  static absl::StatusOr<Session> Make(const GlobalOptions& options);

  const std::filesystem::path& home() const { return home_; }
  bool json() const { return json_; }
  const Screen& out() const { return out_; }
  const Screen& err() const { return err_; }
  // Whether a person can be asked: stdin and stderr are a terminal.
  bool CanAsk() const { return can_ask_; }

  // A result, on stdout: the text, or with --json the document.
  void Print(absl::string_view text, const Json& document) const;
  // Text on stdout, whatever --json says. That it could not be written is seen at the end
  // (FlushOutput).
  void Write(absl::string_view text) const;
  // A remark on stderr; a line feed is added.
  void Note(absl::string_view text) const;
  // The remark of `answer` about the machine's disk, if it has one.
  void NoteDisk(const Json& answer) const;
  // Yes or no from the user, asked again while it is neither. Cancelled at the end of the input,
  // InterruptedError after Ctrl-C. An empty answer means no.
  absl::StatusOr<bool> Ask(absl::string_view question) const;

  // Whether the user typed `word`; asked once. Ends as Ask does.
  absl::StatusOr<bool> AskForWord(absl::string_view question, absl::string_view word) const;

  // Starts vibed when it does not run, makes the call and shows `label` and progress meanwhile.
  // Ctrl-C ends it with InterruptedError; vibed sees the connection close and cancels.
  absl::StatusOr<Json> Run(absl::string_view label, const ApiRequest& request);

  // Starts vibed when it does not run. A version that is not ours is a remark on stderr.
  // `cancelled` is asked often and may be empty.
  absl::Status Ready(const std::function<bool()>& cancelled);

  std::unique_ptr<ApiClient> NewClient() const;
  TableStyle Table() const;

 private:
  Session() = default;
  void Compare(const DaemonVersion& daemon);

  std::filesystem::path home_;
  bool json_ = false;
  bool can_ask_ = false;
  Screen out_;
  Screen err_;
  bool compared_ = false;  // the remark about the version was made
};

// Writes out what stdout still holds. False when its reader is gone, which is nothing to complain
// about; an error for everything else, such as a full disk.
absl::StatusOr<bool> FlushOutput();

}  // namespace vibe::cli
