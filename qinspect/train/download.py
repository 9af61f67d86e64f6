"""Published data sets through Keras, which keeps what it downloads in ``~/.keras/datasets``."""

from __future__ import annotations

import contextlib
import socket
import sys

from qinspect.errors import DataError, require_extra
from qinspect.schema import Array

_TIMEOUT_SECONDS = 10.0


def download(name: str) -> tuple[Array, Array, Array, Array]:
    """Load a data set with ``tf_keras.datasets``, from its cache or from the network.

    Parameters
    ----------
    name : {"fashion_mnist", "mnist", "cifar10"}

    Returns
    -------
    x_train, y_train, x_test, y_test : ndarray
        As Keras gives them: uint8 images and labels.

    Raises
    ------
    MissingExtraError
        If tf_keras is not installed.
    DataError
        If the data set is neither in the cache nor can be downloaded.

    Notes
    -----
    What Keras prints goes to standard error, since standard output may be JSON.  A server that
    does not answer within 10 s counts as no network.
    """
    try:
        from tf_keras import datasets
    except ImportError as error:
        raise require_extra("tf_keras", "train", f"downloading {name}") from error
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            (x_train, y_train), (x_test, y_test) = getattr(datasets, name).load_data()
    # Keras raises a bare Exception when the network fails.
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise DataError(f"{name} could not be downloaded: {why}.") from error
    finally:
        socket.setdefaulttimeout(before)
    return x_train, y_train, x_test, y_test
