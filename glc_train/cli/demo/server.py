"""`glc demo`: serves the page until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glc_train.cli.errors import CommandError

# Read when Gradio is imported. What it makes is to lie in a folder of ours, which is removed at the end.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def serve(args: argparse.Namespace) -> int:
    """Serves until the process is interrupted. Raises CommandError, WeightsError."""
    with serving(args) as address:
        print(f"{address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
    return 0


@contextmanager
def serving(args: argparse.Namespace) -> Iterator[str]:
    """Serves the page in threads while the block runs; gives its address.

    Raises:
        CommandError: the address or port cannot be had.
        WeightsError: there is no codec.
    """
    _check_free(args.host, args.port)
    with tempfile.TemporaryDirectory(prefix="glc-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder, "gradio"))
        _without_proxy(args.host)
        from glc_train.cli.demo.desk import Desk
        from glc_train.cli.demo.page import Page

        page = Page(Desk(args, Path(folder))).build()
        _, address, _ = page.launch(
            server_name=args.host, server_port=args.port, prevent_thread_lock=True, quiet=True, share=False,
            ssr_mode=False, max_file_size=f"{args.max_mb}mb", footer_links=[], enable_monitoring=False,
            theme=_theme(),
            css_paths=Path(__file__).with_name("page.css"),
        )  # fmt: skip
        try:
            yield address
        finally:
            page.close(verbose=False)


def _check_free(host: str, port: int | None) -> None:
    """Gradio would find out after all codecs are loaded, and try a hundred ports."""
    try:
        socket.create_server((host, port or 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, OverflowError) as error:
        named = f"--host {host}" + (f" --port {port}" if port else "")
        raise CommandError(f"{named}: cannot be listened on ({error}); name another.") from error


def _without_proxy(host: str) -> None:
    """Gradio asks its own server whether it is there; a proxy would not know."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), host, "127.0.0.1", "localhost"]))


def _theme() -> Any:
    """Gradio's own, in our colours; grey text and buttons dark enough to be read on their ground."""
    import gradio as gr

    return gr.themes.Default(primary_hue="blue", neutral_hue="slate").set(
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )
