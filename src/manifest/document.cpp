#include "manifest/document.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <sstream>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace vibe::manifest {
namespace {

// The deepest part of a manifest is six levels down.
constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxNodes = 100'000;

class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(const SourceText& source, Diagnostics& diagnostics)
      : source_(source), diagnostics_(diagnostics) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (root_ && !stopped_) {
      Stop(mark, "a second document starts here; a manifest is one document");
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    Leaf(MakeNode(TreeNode::Kind::kNull, mark));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Leaf(Refuse(mark, "aliases (*name) are not read in a manifest: write the value out"));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    last_scalar_ = mark.is_null() ? last_scalar_ : static_cast<size_t>(mark.pos);
    if (!IsKnownTag(tag, "tag:yaml.org,2002:str")) {
      Leaf(RefuseTag(mark, tag));
      return;
    }
    TreeNode node = MakeNode(TreeNode::Kind::kScalar, mark);
    node.text = value;
    node.plain = tag == "?";
    Leaf(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    Open(IsKnownTag(tag, "tag:yaml.org,2002:seq") ? MakeNode(TreeNode::Kind::kSequence, mark)
                                                  : RefuseTag(mark, tag));
  }
  void OnSequenceEnd() override { Close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    Open(IsKnownTag(tag, "tag:yaml.org,2002:map") ? MakeNode(TreeNode::Kind::kMapping, mark)
                                                  : RefuseTag(mark, tag));
  }
  void OnMapEnd() override { Close(); }

  // The parser takes the end of the file for the end of a quoted text, so that a file that was cut
  // off, or the rest of one behind a forgotten quote, would pass for a value. Only the last scalar
  // can be such a one.
  void CheckLastQuote() {
    const absl::string_view text = source_.yaml();
    const size_t start = SkipProperties(text, last_scalar_);
    if (!stopped_ && start < text.size() && (text[start] == '"' || text[start] == '\'') &&
        !IsClosed(text.substr(start))) {
      diagnostics_.Error({source_.FileOffset(start), ""},
                         "not valid YAML: the quoted text that starts here is not closed");
      stopped_ = true;
    }
  }

  bool stopped() const { return stopped_; }
  std::optional<TreeNode> TakeRoot() { return std::move(root_); }

 private:
  struct Frame {
    TreeNode node;
    bool is_mapping = false;
    bool has_key = false;
    bool key_is_usable = false;
    std::string key;
    size_t key_offset = 0;
    absl::flat_hash_set<std::string> seen;
  };

  // Past tags and anchors, with which the mark of a scalar starts.
  static size_t SkipProperties(absl::string_view text, size_t at) {
    while (at < text.size() && (text[at] == '!' || text[at] == '&')) {
      at = std::min(text.find_first_of(" \t\r\n", at), text.size());
      at = std::min(text.find_first_not_of(" \t\r\n", at), text.size());
    }
    return at;
  }

  // Whether the quoted text that `text` starts with ends in it.
  static bool IsClosed(absl::string_view text) {
    const char quote = text[0];
    for (size_t i = 1; i < text.size(); ++i) {
      if (quote == '"' && text[i] == '\\') {
        ++i;
      } else if (text[i] == quote) {
        if (quote == '"' || i + 1 == text.size() || text[i + 1] != quote) {
          return true;
        }
        ++i;  // '' is a quote inside the text
      }
    }
    return false;
  }

  static bool IsKnownTag(const std::string& tag, const char* name) {
    return tag.empty() || tag == "?" || tag == "!" || tag == name;
  }

  TreeNode MakeNode(TreeNode::Kind kind, const YAML::Mark& mark) {
    TreeNode node;
    node.kind = kind;
    node.offset = OffsetOf(mark);
    return node;
  }

  size_t OffsetOf(const YAML::Mark& mark) {
    if (!mark.is_null()) {
      last_offset_ = source_.FileOffset(static_cast<size_t>(mark.pos));
    }
    return last_offset_;
  }

  std::string Path() const {
    std::string path;
    for (const Frame& frame : stack_) {
      if (frame.is_mapping && frame.has_key) {
        path = ChildPath(path, frame.key);
      } else if (!frame.is_mapping) {
        path = ItemPath(path, frame.node.items.size());
      }
    }
    return path;
  }

  TreeNode Refuse(const YAML::Mark& mark, std::string message) {
    TreeNode node = MakeNode(TreeNode::Kind::kRefused, mark);
    if (!stopped_) {
      diagnostics_.Error({node.offset, Path()}, std::move(message));
    }
    return node;
  }

  TreeNode RefuseTag(const YAML::Mark& mark, const std::string& tag) {
    return Refuse(mark,
                  absl::StrCat("the tag ", Quoted(tag), " is not read in a manifest: remove it"));
  }

  void Stop(const YAML::Mark& mark, std::string message) {
    Refuse(mark, std::move(message));
    stopped_ = true;
  }

  bool CountNode(size_t offset) {
    if (!stopped_ && ++nodes_ > kMaxNodes) {
      diagnostics_.Error({offset, Path()},
                         absl::StrCat("a manifest has at most ", kMaxNodes, " values"));
      stopped_ = true;
    }
    return !stopped_;
  }

  void Open(TreeNode node) {
    if (!CountNode(node.offset)) {
      return;
    }
    if (stack_.size() == kMaxDepth) {
      diagnostics_.Error({node.offset, Path()},
                         absl::StrCat("this is nested more than ", kMaxDepth, " levels deep"));
      stopped_ = true;
      return;
    }
    Frame frame;
    frame.is_mapping = node.kind == TreeNode::Kind::kMapping;
    frame.node = std::move(node);
    stack_.push_back(std::move(frame));
  }

  void Close() {
    if (stopped_) {
      return;
    }
    TreeNode node = std::move(stack_.back().node);
    stack_.pop_back();
    Add(std::move(node));
  }

  void Leaf(TreeNode node) {
    if (CountNode(node.offset)) {
      Add(std::move(node));
    }
  }

  void Add(TreeNode node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& frame = stack_.back();
    if (!frame.is_mapping) {
      if (frame.node.kind == TreeNode::Kind::kSequence) {
        frame.node.items.push_back(std::move(node));
      }
    } else if (!frame.has_key) {
      AddKey(frame, std::move(node));
    } else {
      frame.has_key = false;
      if (frame.key_is_usable) {
        frame.node.entries.push_back({std::move(frame.key), frame.key_offset, std::move(node)});
      }
    }
  }

  void AddKey(Frame& frame, TreeNode node) {
    frame.key_offset = node.offset;
    frame.key_is_usable = false;
    frame.key = std::move(node.text);
    if (node.kind == TreeNode::Kind::kRefused) {
      frame.key.assign(1, '*');
    } else if (node.kind != TreeNode::Kind::kScalar) {
      diagnostics_.Error({node.offset, Path()},
                         "a key must be a word, not a list, a mapping or nothing");
    } else if (!frame.seen.insert(frame.key).second) {
      diagnostics_.Error({node.offset, ChildPath(Path(), frame.key)},
                         absl::StrCat("the key ", Quoted(frame.key), " is given twice; keep one"));
    } else {
      frame.key_is_usable = true;
    }
    frame.has_key = true;
  }

  const SourceText& source_;
  Diagnostics& diagnostics_;
  std::vector<Frame> stack_;
  std::optional<TreeNode> root_;
  size_t nodes_ = 0;
  size_t last_offset_ = 0;
  size_t last_scalar_ = 0;  // in source_.yaml()
  bool stopped_ = false;
};

// The parser's words, where they help nobody, in ours.
std::string Explain(absl::string_view message) {
  struct Explanation {
    absl::string_view parser, ours;
  };
  static constexpr Explanation kExplanations[] = {
      {"end of map not found",
       "this does not fit the mapping that it stands in: check the indentation and the \":\" after "
       "the key"},
      {"end of sequence not found",
       "this does not fit the list that it stands in: check the indentation and the \"- \""},
      {"end of map flow not found", "a \"{\" is not closed, or a \",\" is missing before this"},
      {"end of sequence flow not found",
       "a \"[\" is not closed, or a \",\" is missing before this"},
      {"illegal tab when looking for indentation", "indent with spaces, not with tabs"},
      {"illegal map value", "a \":\" cannot stand here: put text that holds one in quotes"},
      {"illegal end of scalar", "a quoted text is not closed"},
      {"illegal EOF in scalar", "a quoted text is not closed before the file ends"},
      {"the referenced anchor is not defined",
       "aliases (*name) are not read in a manifest; text that starts with * needs quotes"},
  };
  for (const Explanation& explanation : kExplanations) {
    if (message == explanation.parser) {
      return std::string(explanation.ours);
    }
  }
  return std::string(message);
}

}  // namespace

std::optional<TreeNode> ReadDocument(const SourceText& source, Diagnostics& diagnostics) {
  TreeBuilder builder(source, diagnostics);
  const auto offset_of = [&](const YAML::Mark& mark) {
    return mark.is_null() ? 0 : source.FileOffset(static_cast<size_t>(mark.pos));
  };
  try {
    std::istringstream stream(source.yaml());
    YAML::Parser parser(stream);
    while (!builder.stopped() && parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::DeepRecursion& error) {
    if (!builder.stopped()) {
      diagnostics.Error({offset_of(error.mark), ""}, "this is nested too deeply");
    }
    return std::nullopt;
  } catch (const YAML::Exception& error) {
    if (!builder.stopped()) {
      diagnostics.Error({offset_of(error.mark), ""},
                        absl::StrCat("not valid YAML: ", Explain(error.msg)));
    }
    return std::nullopt;
  } catch (const std::exception& error) {
    diagnostics.Error({}, absl::StrCat("not valid YAML: ", error.what()));
    return std::nullopt;
  }
  builder.CheckLastQuote();
  if (builder.stopped()) {
    return std::nullopt;
  }
  std::optional<TreeNode> root = builder.TakeRoot();
  if (!root) {
    diagnostics.Error({}, "the file is empty; a manifest starts with \"kind: vibe.app/v1\"");
  }
  return root;
}

}  // namespace vibe::manifest
