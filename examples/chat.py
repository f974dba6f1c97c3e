# SPDX-License-Identifier: Apache-2.0
"""Talks to a chat model through the engine's JSON Lines protocol.

    python examples/chat.py [--engine PROGRAM] [--model DIR] [--temperature X] [PROMPT]

The answer is printed as it comes.  Without PROMPT it reads one a line and keeps the
conversation; the engine then finds what was said before in its cache.  DIR is a
Hugging Face folder with tokenizer.json and chat_template.jinja, such as
tools/get_smollm2.py makes.  Needs tokenizers and jinja2.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

try:
    import jinja2
    import tokenizers
except ImportError as error:
    sys.exit(f"chat: {error.name} is missing: {sys.executable} -m pip install tokenizers jinja2")

BUILD = Path(__file__).resolve().parent.parent / "build"


class Engine:
    """The engine as a child: a request goes in as a line, tokens come out."""

    def __init__(self, program, model):
        self.child = subprocess.Popen(
            [program, "--json", "--model", model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def generate(self, **request):
        """Yields tokens; raises ValueError with the engine's sentence."""
        try:
            self.child.stdin.write(json.dumps({"id": 0, "stream": True, **request}) + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass
        for line in self.child.stdout:
            answer = json.loads(line)
            if "token" in answer:
                yield answer["token"]
            elif answer["finish"] == "error":
                raise ValueError(answer["error"])
            else:
                return
        raise ValueError(self.child.stderr.read().strip())

    def close(self):
        self.child.communicate()


class Chat:
    def __init__(self, engine, model, options):
        self.engine, self.options, self.messages = engine, options, []
        self.tokenizer = tokenizers.Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
        self.template = jinja2.Template((Path(model) / "chat_template.jinja").read_text())

    def ask(self, text):
        """Yields the answer in pieces."""
        self.messages.append({"role": "user", "content": text})
        prompt = self.template.render(messages=self.messages, add_generation_prompt=True)
        ids = self.tokenizer.encode(prompt, add_special_tokens=False).ids
        tokens, shown = [], ""
        for token in self.engine.generate(tokens=ids, **self.options):
            tokens.append(token)
            answer = self.tokenizer.decode(tokens)
            if not answer.endswith("\ufffd"):  # half of a character
                yield answer[len(shown) :]
                shown = answer
        self.messages.append({"role": "assistant", "content": shown})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default=str(BUILD / "examples" / "engine"))
    parser.add_argument("--model", default=str(BUILD / "smollm2"))
    parser.add_argument("--temperature", type=float, default=0)
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("prompt", nargs="?")
    args = parser.parse_args()
    if not (Path(args.model) / "tokenizer.json").exists():
        sys.exit(f"chat: {args.model} has no tokenizer.json: tools/get_smollm2.py makes a folder that has")
    if not Path(args.engine).is_file():
        sys.exit(f"chat: {args.engine} is not built")
    engine = Engine(args.engine, args.model)
    options = {"temperature": args.temperature, "max_new_tokens": args.max_new_tokens}
    chat = Chat(engine, args.model, options)
    try:
        for line in [args.prompt] if args.prompt else sys.stdin:
            for piece in chat.ask(line.strip()):
                print(piece, end="", flush=True)
            print()
    except ValueError as error:
        sys.exit(f"chat: {error}")
    finally:
        engine.close()


if __name__ == "__main__":
    main()
