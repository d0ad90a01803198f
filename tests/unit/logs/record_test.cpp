#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "logs/line_splitter.h"
#include "logs/log_file.h"

namespace vibe::logs {
namespace {

using testing::ElementsAre;

std::vector<Record> Parse(absl::string_view text) {
  std::vector<Record> records;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const auto record = ParseRecord(text.substr(0, newline));
    EXPECT_TRUE(record.ok()) << record.status();
    if (record.ok()) {
      records.push_back(*record);
    }
    text.remove_prefix(std::min(newline, text.size() - 1) + 1);
  }
  return records;
}

// What a service's lines are in the log when its output comes in these pieces.
std::vector<std::string> Lines(const std::vector<std::string>& pieces,
                               const std::vector<std::string>& secrets = {}) {
  const SecretMask mask(secrets);
  LineSplitter splitter(Stream::kStdout, mask);
  std::string out;
  for (const std::string& piece : pieces) {
    splitter.Feed(piece, {}, out);
  }
  splitter.Finish({}, out);
  std::vector<std::string> lines;
  bool partial = false;
  for (const Record& record : Parse(out)) {
    EXPECT_LE(record.text.size(), kMaxLineBytes);
    if (!partial) {
      lines.emplace_back();
    }
    lines.back() += record.text;
    partial = record.partial;
  }
  return lines;
}

TEST(Record, IsWrittenAsDocumented) {
  const absl::Time time = absl::FromUnixNanos(1767322985123456789);
  EXPECT_EQ(FormatRecord({.time = time, .text = "hello"}),
            "2026-01-02T03:03:05.123456789Z stdout F hello\n");
  EXPECT_EQ(FormatRecord({.time = time, .stream = Stream::kStderr, .partial = true, .text = ""}),
            "2026-01-02T03:03:05.123456789Z stderr P \n");
}

TEST(Record, ComesBackAsItWasWritten) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i) {
    Record record{
        .time = absl::FromUnixNanos(static_cast<int64_t>(random() % 4'000'000'000'000'000'000)),
        .stream = random() % 2 == 0 ? Stream::kStdout : Stream::kStderr,
        .partial = random() % 2 == 0,
        .text = std::string(random() % 50, '\0')};
    for (char& c : record.text) {
      do {
        c = static_cast<char>(random());
      } while (c == '\n');
    }
    std::string line = FormatRecord(record);
    ASSERT_EQ(line.back(), '\n');
    line.pop_back();
    const auto parsed = ParseRecord(line);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->time, record.time);
    EXPECT_EQ(parsed->stream, record.stream);
    EXPECT_EQ(parsed->partial, record.partial);
    EXPECT_EQ(parsed->text, record.text);
  }
}

TEST(Record, RefusesWhatIsNone) {
  const std::string good = "2026-01-02T03:04:05.123456789Z stdout F text";
  ASSERT_TRUE(ParseRecord(good).ok());
  for (size_t size = 0; size < kLineHeaderBytes; ++size) {
    EXPECT_FALSE(ParseRecord(good.substr(0, size)).ok()) << size;
  }
  for (const char* bad : {"2026-13-02T03:04:05.123456789Z stdout F text",
                          "2026-02-30T03:04:05.123456789Z stdout F text",
                          "2026-01-02T25:04:05.123456789Z stdout F text",
                          "2026-01-02T03:04:05,123456789Z stdout F text",
                          "2026-01-02T03:04:05.123456789Z stdin  F text",
                          "2026-01-02T03:04:05.123456789Z stdout X text"}) {
    EXPECT_FALSE(ParseRecord(bad).ok()) << bad;
  }
}

TEST(Record, HoldsNoSecondRecordInItsText) {
  const std::string forged = "x\n2026-01-02T03:04:05.123456789Z stderr F forged";
  const std::string line = FormatRecord({.text = forged});
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(LineSplitter, MakesALineOfEachLineHoweverItComes) {
  EXPECT_THAT(Lines({"one\ntwo\n"}), ElementsAre("one", "two"));
  EXPECT_THAT(Lines({"o", "n", "e\nt", "wo", "\n"}), ElementsAre("one", "two"));
  EXPECT_THAT(Lines({"\n\n", "x\n"}), ElementsAre("", "", "x"));
  EXPECT_THAT(Lines({"no newline at the end"}), ElementsAre("no newline at the end"));
  EXPECT_THAT(Lines({"x\n", ""}), ElementsAre("x"));
  EXPECT_THAT(Lines({}), ElementsAre());
  EXPECT_THAT(Lines({std::string("a\0b\xff\r\n", 6)}), ElementsAre(std::string("a\0b\xff\r", 5)));
}

TEST(LineSplitter, CutsLongLinesAndLosesNothing) {
  for (const size_t size : {kMaxLineBytes - 1, kMaxLineBytes, kMaxLineBytes + 1, 2 * kMaxLineBytes,
                            2 * kMaxLineBytes + 1, 10 * kMaxLineBytes + 7}) {
    std::string line(size, 'x');
    for (size_t i = 0; i < size; i += 1000) {
      line[i] = static_cast<char>('a' + i / 1000 % 26);
    }
    EXPECT_THAT(Lines({line + "\nnext\n"}), ElementsAre(line, "next"));
    EXPECT_THAT(Lines({line.substr(0, size / 2), line.substr(size / 2)}), ElementsAre(line));
  }
  const SecretMask none;
  LineSplitter splitter(Stream::kStdout, none);
  std::string out;
  splitter.Feed(std::string(kMaxLineBytes, 'x') + "\n", {}, out);
  EXPECT_EQ(Parse(out).size(), 1U) << "a line of just the limit is whole";
}

TEST(LineSplitter, MasksSecretValues) {
  EXPECT_THAT(Lines({"password=hunter22!\n"}, {"hunter22"}), ElementsAre("password=***!"));
  EXPECT_THAT(Lines({"hunter22hunter22\n"}, {"hunter22"}), ElementsAre("******"));
  EXPECT_THAT(Lines({"hunter2 hunter22\n"}, {"hunter22"}), ElementsAre("hunter2 ***"));
  EXPECT_THAT(Lines({"abcdef abcd\n"}, {"abcd", "abcdef"}), ElementsAre("*** ***"))
      << "the longer value must not leave its end behind";
  EXPECT_THAT(Lines({"aaaab\n"}, {"aaab"}), ElementsAre("a***"));
  EXPECT_THAT(Lines({"a yes is no secret\n"}, {"yes", "", "no"}),
              ElementsAre("a yes is no secret"));
  EXPECT_THAT(Lines({"ends with hunter22"}, {"hunter22"}), ElementsAre("ends with ***"));
  EXPECT_THAT(Lines({"ends with hunter2"}, {"hunter22"}), ElementsAre("ends with hunter2"));
}

TEST(LineSplitter, MasksAValueThatComesInPieces) {
  const std::string text = "user=joe password=hunter22 done\nnext hunt\ner22\n";
  for (size_t first = 0; first <= text.size(); ++first) {
    for (size_t second = first; second <= text.size(); ++second) {
      EXPECT_THAT(
          Lines({text.substr(0, first), text.substr(first, second - first), text.substr(second)},
                {"hunter22"}),
          ElementsAre("user=joe password=*** done", "next hunt", "er22"));
    }
  }
}

TEST(LineSplitter, MasksAValueAcrossTheCutOfALongLine) {
  const std::string secret = "hunter22";
  for (size_t before = kMaxLineBytes - secret.size() - 1; before <= kMaxLineBytes + 1; ++before) {
    const std::string pad(before, 'x');
    EXPECT_THAT(Lines({pad + secret + "y\n"}, {secret}), ElementsAre(pad + "***y"));
    EXPECT_THAT(Lines({pad + "hunt", "er22y\n"}, {secret}), ElementsAre(pad + "***y"));
  }
}

TEST(LineSplitter, MasksEveryLineOfAValueWithSeveral) {
  const std::string key = "-----BEGIN KEY-----\r\n  c2VjcmV0\n\nYQ==\n-----END KEY-----\n";
  EXPECT_THAT(Lines({"key: " + key}, {key}), ElementsAre("key: ***\r", "  ***", "", "***", "***"));
}

TEST(LineSplitter, GivesTheSameForAnyPieces) {
  std::mt19937 random(11);
  const std::vector<std::string> secrets = {"abab", "ababab", "bbbbbbbb", "aab\nbba\nabba"};
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (size_t i = random() % 400; i > 0; --i) {
      text.push_back("aabbab\n"[random() % 7]);
    }
    const std::vector<std::string> whole = Lines({text}, secrets);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 5;
      pieces.push_back(text.substr(at, size));
      at += size;
    }
    EXPECT_EQ(Lines(pieces, secrets), whole) << text;
    for (const std::string& line : whole) {
      EXPECT_EQ(line.find("abab"), std::string::npos) << text;
    }
  }
}

}  // namespace
}  // namespace vibe::logs
