// The services' output as lines of text. Pure, but for the colours that are dealt out in order.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/json_fields.h"
#include "cli/text.h"

namespace vibe::cli {

struct LogLine {
  std::string time;
  std::string service;
  std::string stream;  // "stdout", "stderr"
  std::string text;
};

LogLine ParseLogLine(const Json& json);

struct LogStyle {
  bool prefix = false;  // each line begins with its service
  bool escape = false;  // control characters are shown as escapes
  bool color = false;
};

class LogRenderer {
 public:
  // The services in the manifest's order, which also settles their colours. One that is not among
  // them may come all the same.
  LogRenderer(const std::vector<std::string>& services, const LogStyle& style);

  // One line with its line feed.
  std::string Render(const LogLine& line);

 private:
  Color ColorOf(const std::string& service);

  const LogStyle style_;
  int width_ = 0;
  std::map<std::string, Color> colors_;  // at most kMaxColored
};

}  // namespace vibe::cli
