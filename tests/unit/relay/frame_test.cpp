#include "relay/frame.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace vibe::relay {
namespace {

using std::string_literals::operator""s;
using Found = FrameReader::Found;

std::string Header(FrameKind kind, size_t count) {
  std::string header(kFrameHeaderBytes, '\0');
  WriteFrameHeader(kind, count, header.data());
  return header;
}

struct Heard {
  std::string text;  // payload as it is, other frames as "<kind count>"
  bool sense = true;
};

// Reads `bytes` in pieces of `size`.
Heard Hear(absl::string_view bytes, size_t size) {
  FrameReader reader;
  Heard heard;
  while (!bytes.empty() && heard.sense) {
    absl::string_view piece = bytes.substr(0, size);
    bytes.remove_prefix(piece.size());
    FrameReader::Frame frame;
    Found found;
    while ((found = reader.Next(piece, frame)) == Found::kFrame) {
      heard.text += frame.kind == FrameKind::kData
                        ? std::string(frame.payload)
                        : "<" + std::to_string(static_cast<int>(frame.kind)) + " " +
                              std::to_string(frame.count) + ">";
    }
    heard.sense = found == Found::kNothing;
  }
  return heard;
}

TEST(Frame, IsFourBytesAndItsPayload) {
  EXPECT_EQ(Header(FrameKind::kData, 0x012345), "\0\1\x23\x45"s);
  EXPECT_EQ(Header(FrameKind::kTaken, kWindowBytes), "\1\4\0\0"s);
  EXPECT_EQ(Header(FrameKind::kEnd, 0), "\2\0\0\0"s);
  EXPECT_EQ(Header(FrameKind::kReset, 0), "\3\0\0\0"s);
}

TEST(Frame, IsFoundHoweverTheStreamIsCut) {
  const std::string stream = Header(FrameKind::kData, 5) + "hello" +
                             Header(FrameKind::kTaken, 70000) + Header(FrameKind::kData, 1) + "!" +
                             Header(FrameKind::kEnd, 0) + Header(FrameKind::kTaken, 1) +
                             Header(FrameKind::kReset, 0);
  for (size_t size = 1; size <= stream.size(); ++size) {
    const Heard heard = Hear(stream, size);
    EXPECT_EQ(heard.text, "hello<1 70000>!<2 0><1 1><3 0>") << "in pieces of " << size;
    EXPECT_TRUE(heard.sense);
  }
}

TEST(Frame, TheLargestIsFound) {
  const std::string payload(kWindowBytes, 'x');
  EXPECT_TRUE(Hear(Header(FrameKind::kData, kWindowBytes) + payload, 10'000).text == payload);
}

class Nonsense : public testing::TestWithParam<std::string> {};

TEST_P(Nonsense, IsRecognized) {
  for (const size_t size : {size_t{1}, GetParam().size()}) {
    EXPECT_FALSE(Hear(GetParam(), size).sense);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Frame, Nonsense,
    testing::Values("HTTP/1.1 200 OK\r\n"s, "\xff\xff\xff\xff"s, "\4\0\0\0"s,
                    Header(FrameKind::kData, 0), Header(FrameKind::kData, kWindowBytes + 1),
                    Header(FrameKind::kTaken, 0), Header(FrameKind::kTaken, kWindowBytes + 1),
                    Header(FrameKind::kEnd, 1), Header(FrameKind::kReset, 1),
                    Header(FrameKind::kEnd, 0) + Header(FrameKind::kEnd, 0),
                    Header(FrameKind::kEnd, 0) + Header(FrameKind::kData, 1) + "x",
                    Header(FrameKind::kReset, 0) + Header(FrameKind::kTaken, 1),
                    Header(FrameKind::kReset, 0) + "x"));

TEST(Frame, NothingIsFoundAfterNonsense) {
  FrameReader reader;
  FrameReader::Frame frame;
  const std::string wrong = "\7\0\0\0"s;
  absl::string_view bytes = wrong;
  ASSERT_EQ(reader.Next(bytes, frame), Found::kNonsense);
  const std::string right = Header(FrameKind::kEnd, 0);
  bytes = right;
  EXPECT_EQ(reader.Next(bytes, frame), Found::kNonsense);
}

}  // namespace
}  // namespace vibe::relay
