"""Prints rows of benchmarks as one table. A row is a line of JSON: claim, ours, peer, ratio, goal (the highest ratio that
is good enough), unit."""

import json
import sys


def main():
    rows = [json.loads(line) for line in open(sys.argv[1]) if line.strip()]
    cells = [("claim", "ours", "peer", "ratio", "goal", "")]
    for row in rows:
        met = row["ratio"] <= row["goal"]
        cells.append((row["claim"], f"{row['ours']:.3g} {row['unit']}", f"{row['peer']:.3g} {row['unit']}",
                      f"{row['ratio']:.2f}", f"<= {row['goal']:.2f}", "met" if met else "NOT MET"))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())


if __name__ == "__main__":
    main()
