#!/usr/bin/env python3
"""Prints what Jinja2 makes of conversations with the templates given: a JSON list of
{"template", "messages", "add_generation_prompt", "text" or "error"}. The environment is transformers'.

    chat_reference.py TEMPLATE.jinja…
"""
import itertools
import json
import pathlib
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

BOS, EOS = "<s>", "</s>"


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def turn(role, content):
    return {"role": role, "content": content}


def conversations():
    system = turn("system", " Be brief. \u00e9\u4e2d ")
    users = [turn("user", f"  Question {i}?\n <x> & 'y' {{{{ z }}}}\n") for i in (1, 2, 3)]
    answers = [turn("assistant", f" Answer {i}.\u3000\n") for i in (1, 2, 3)]
    three = [users[0], answers[0], users[1], answers[1], users[2]]
    for start in ([], [system]):
        yield start + users[:1]
        yield start + three
        yield start + three + answers[2:]
        yield start + [turn("user", "")]
    yield users[:2]
    yield [answers[0]]
    yield [users[0], system]


def main():
    out = []
    for path in sys.argv[1:]:
        source = pathlib.Path(path).read_bytes().decode()
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = raise_exception
        template = environment.from_string(source)
        for messages, prompt in itertools.product(conversations(), (True, False)):
            case = {"template": path, "messages": messages, "add_generation_prompt": prompt}
            try:
                case["text"] = template.render(messages=messages, add_generation_prompt=prompt, bos_token=BOS,
                                               eos_token=EOS)
            except jinja2.exceptions.TemplateError as error:
                case["error"] = str(error)
            out.append(case)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
