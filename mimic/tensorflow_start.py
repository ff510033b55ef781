"""TensorFlow imported the one way in which results do not depend on threads, and without its chatter."""

from __future__ import annotations

import os
import sys
import tempfile

__all__ = ["start_tensorflow"]


def start_tensorflow() -> None:
    """Import TensorFlow on one CPU thread and without its C++ chatter.

    Small networks are fastest so, GPUs included. Threads and kernels are fixed whatever the environment says, so
    that a result does not depend on them to the last bit. The messages come before any setting can silence them,
    so standard error is closed to them meanwhile; when the import fails they are told.
    """
    os.environ |= {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as messages:
        terminal = os.dup(2)
        os.dup2(messages.fileno(), 2)
        try:
            import tensorflow

            tensorflow.constant(0.0)  # the first operation looks for devices, and talks about them
        except Exception:
            messages.seek(0)
            os.write(terminal, messages.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
