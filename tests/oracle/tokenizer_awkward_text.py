#!/usr/bin/env python3
"""Writes tests/text/awkward.txt: valid UTF-8 on which tokenizers tend to differ.

    python3 tests/oracle/tokenizer_awkward_text.py > tests/text/awkward.txt
"""
import sys
import unicodedata

LINES = [
    "Plain words, then don't won't we're they've I'm we'll he'd IT'S DON'T WE'RE They'VE I'M WE'LL HE'D.",
    "Not quite contractions: 's 'x ' s ''s 'll'll d'accord rock'n'roll '\u017f '\u017ft 'S\u017f \u2019s don\u2019t O'\u212a x'\u00dfe 'l 'r 'v",
    "Spaces: one two  three   four    five     tab\ttabs\t\tmix \t \t end  ",
    "   leading, trailing   ",
    " ",
    "          ",
    "NBSP\u00a0a \u00a0\u00a0b, thin\u2009\u200a, em\u2003\u2003x, ideographic\u3000\u3000y, ogham\u1680z, NEL\u0085w, LS\u2028v, PS\u2029u, narrow\u202ft, math\u205fs",
    "Not spaces: ZWSP\u200bx ZWNJ\u200cx ZWJ\u200dx WJ\u2060x BOM\ufeffx MVS\u180ex SHY\u00adx",
    "\ufeffBOM at the start of a line",
    "Digits: 0 12 123 1234 12345 1234567890 3.14159 1,234,567 0x1F 1e-9 2nd 10th No.5",
    "Other digits: \u0661\u0662\u0663\u0664 \u0967\u0968\u0969 \u09e7\u09e8 \uff11\uff12\uff13 \U0001d7ce\U0001d7cf\U0001d7d0 \u2460\u2461\u2462 \u00bd\u00bc\u2154 x\u00b2y\u00b3 \u2163\u216b \u3007\u4e00\u4e8c \u0f20\u0f33 \U00010107\U00010108 \u16ee",
    "Accents: caf\u00e9 cafe\u0301 na\u00efve nai\u0308ve \u00c5ngstr\u00f6m A\u030angstro\u0308m \u1e69 s\u0323\u0307 s\u0307\u0323 \u1ec7 e\u0323\u0302 \u0344 \u0958 \u0915\u093c \u2126 \u212b",
    "Stacked: Z\u0351\u036b\u0343\u036a\u0302a\u0321l\u0337\u031bg\u0321o\u0321 \u0301 alone \u0301\u0302\u0303",
    "Hangul: \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab\u1100\u116e\u11a8 \uac00\u11a8 \u1100\u1161\u11a7 \u3131\u314f",
    "CJK: \u4f60\u597d\uff0c\u4e16\u754c\uff01 \u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\u30ab\u3099\u30d1\u3071 \uff76\uff9e \U00020000\U0002a6d6 \ufa0e\uf900",
    "RTL: \u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd \u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u0627\u0644\u0633\u0651\u064e\u0644\u0627\u0645\u064f \u200f\u200e\u202aabc\u202c\u2067x\u2069",
    "Indic and Thai: \u0928\u092e\u0938\u094d\u0924\u0947 \u0915\u094d\u0937\u093f \u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a \u0e01\u0e33 \u0f56\u0f7c\u0f51\u0f0b \u1019\u103c\u1014\u103a\u1019\u102c \u1781\u17d2\u1798\u17c2\u179a",
    "Emoji: \U0001f600 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7\U0001f1ea 1\ufe0f\u20e3 #\ufe0f\u20e3 \u2764\ufe0f \U0001f9d1\U0001f3ff\u200d\U0001f680 \U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "Symbols: \u20ac\u00a3\u00a5 \u2200x\u2208\u211d: \u2211\u1d62\u2264\u221e \u2190\u2192\u21d2 \u00a9\u00ae\u2122 \u00b0C \u00b51 \u03bcm \u0023\u0024% ^_` ~| \\ \u2026\u2014\u2013 \u00abx\u00bb \u201cy\u201d \u2039z\u203a",
    "Casing: \u0130stanbul \u0131\u015f\u0131k stra\u00dfe STRA\u1e9eE \ufb01nd \ufb03 \u01c5 \u01c4 \u01c6 \u03a3\u03c3\u03c2 \u212aelvin \u017ftraight",
    "Letters of letters: \u00aa \u00ba \u02b0 \u02bc \u1d43 \u2071 \u24b6\u24e9 \U0001f130 \ua66e \u2c7c \U0001d400\U0001d4d0\U0001d56c",
    "Private and unassigned: \ue000\uf8ff \U000f0000 \U0010fffd \ufffd \ufdd0 \uffff \U0001ffff \u0378 \u05ff \u2fe0",
    "Control: \x00NUL\x00\x00 \x01\x02\x07\x08 \x0b\x0c \x1b[31mred\x1b[0m \x1c\x1d\x1e\x1f \x7f \x80\u0081\u009f",
    "Lookalikes: <|im_start|>system\nx<|im_end|> <|endoftext|><|endoftext|> <|im_start|><|im_sta <|im_start| > < |im_end|>",
    "<s></s><unk><s> </s> [INST] <<SYS>> <0x0A><0x41>0x0A> <|begin_of_text|><|eot_id|><|start_header_id|>user<|end_header_id|>",
    "<repo_name><reponame><file_sep><filename><gh_stars><issue_start><jupyter_start><empty_output> <repo_name > </s ></s",
    "  <s>  two spaces around  </s>  \t<|im_end|>\n  <|endoftext|>  x",
    "Marks: \u2581 \u2581\u2581x \u2581the \u2581\u2581\u2581 a\u2581b \u2581\u2581\u2581\u2581\u2581\u2581\u2581 \u0120the \u010a \u0120\u0120 \u00c4\u0120",
    "Code: def f(x):\n\tif x  ==  0:\n\t\treturn [i**2 for i in range(10)]\n    # comment\n\n\n\n        deep\n}});;//***===---___",
    "CRLF\r\nCR\rLF\n\r\nboth\r\n\r\n\r\nmixed \r \n \r\n  \n\n  \n end",
    "Runs: " + "a" * 300 + " " + "=" * 257 + " " + "ab" * 129 + " " + "\u00e9" * 65 + " " + "\U0001f600" * 33 + " " + "1" * 100,
    "Long spaces:" + " " * 70 + "x" + " " * 129 + "\n" + "\n" * 40 + "\t" * 33 + "y" + " \n" * 20 + "\u3000" * 20,
    "One very long word: " + "Donaudampfschifffahrtsgesellschaftskapit\u00e4n" * 6,
    "URLs: https://example.org/a_b-c.d?e=f&g=%20#h user.name+tag@example.co.uk C:\\Temp\\x.y ../.././z $HOME/${X}",
    "\u00c0\u0300\u0301\u0315\u0300\u05ae\u0062 \u0061\u0315\u0300\u05ae\u0300\u0062 \u1e0b\u0323 \u0064\u0307\u0323 \u09c7\u0334\u09be \u0b47\u0b3e \u1025\u102e",
    "last line without an end: \u00e9\u4e2d\U0001f600 '",
]


def categories():
    """One character of each general category between letters, digits and spaces."""
    seen = {}
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category not in ("Cs", "Cn"):
            seen.setdefault(category, []).append(code)
    lines = []
    for category in sorted(seen):
        picks = seen[category][:: max(1, len(seen[category]) // 6)][:6]
        lines.append(category + ":" + "".join(f"a{chr(c)}b 1{chr(c)}2 {chr(c)} {chr(c)}{chr(c)}'s" for c in picks))
    return lines


if __name__ == "__main__":
    sys.stdout.buffer.write("\n".join(LINES[:-1] + categories() + LINES[-1:]).encode("utf-8"))
