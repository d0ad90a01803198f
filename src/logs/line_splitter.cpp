#include "logs/line_splitter.h"

namespace vibe::logs {

void LineSplitter::Feed(std::string_view bytes, const timespec& time, std::string& out) {
  while (!bytes.empty()) {
    const size_t newline = bytes.find('\n');
    if (newline == std::string_view::npos) {
      Take(bytes, false);
      CutLong(time, out);
      started_ = true;
      return;
    }
    started_ = true;
    Take(bytes.substr(0, newline), true);
    Finish(time, out);
    bytes.remove_prefix(newline + 1);
  }
}

void LineSplitter::Finish(const timespec& time, std::string& out) {
  if (!started_) {
    return;
  }
  Take({}, true);
  CutLong(time, out);
  AppendRecordLine(time, stream_, false, line_, out);
  line_.clear();
  started_ = false;
}

void LineSplitter::Take(std::string_view bytes, bool last) {
  if (!held_.empty()) {
    held_.append(bytes);
    const size_t done = mask_.Apply(held_, last, line_);
    held_.erase(0, done);
  } else {
    held_ = bytes.substr(mask_.Apply(bytes, last, line_));
  }
}

void LineSplitter::CutLong(const timespec& time, std::string& out) {
  size_t cut = 0;
  for (; line_.size() - cut > kMaxLineBytes; cut += kMaxLineBytes) {
    AppendRecordLine(time, stream_, true, std::string_view(line_).substr(cut, kMaxLineBytes), out);
  }
  line_.erase(0, cut);
}

}  // namespace vibe::logs
