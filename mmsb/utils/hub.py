"""The Hugging Face Hub: downloading and uploading through the optional ``huggingface_hub``."""

import importlib.util
import os
import re

from mmsb.utils.errors import UserError, reason_of

PREFIX = 'hf://'  # of a model on the Hub, where a checkpoint's address is wanted


def check_hub_id(name: str) -> None:
    """Raise an error unless a text can be the name of a model on the Hub.

    Raises:
        UserError: It cannot be.
    """
    part = r'[A-Za-z0-9](?:[\w.-]*\w)?'
    if not re.fullmatch(f'{part}/{part}', name, re.ASCII) or '--' in name or '..' in name:
        raise UserError(f'{name} is no model on the Hugging Face Hub: give OWNER/NAME')


def check_hub_package() -> None:
    """Raise an error unless the Hub's package is installed.

    Raises:
        UserError: It is not.
    """
    if importlib.util.find_spec('huggingface_hub') is None:
        raise UserError(
            'the Hugging Face Hub needs a package that is not installed: '
            'pip install huggingface_hub'
        )


def download(name: str, file: str, revision: str | None = None) -> str:
    """Download a file of a model on the Hub into its cache, unless it is there.

    Args:
        name: The model, OWNER/NAME.
        file: The file's name.
        revision: A branch, tag or commit. Defaults to None, the main branch.

    Returns:
        The local path.

    Raises:
        UserError: The package is not installed, there is no such model or file, or no network.
    """
    check_hub_id(name)
    check_hub_package()
    from huggingface_hub import hf_hub_download

    try:
        return hf_hub_download(name, file, revision=revision)
    except Exception as error:  # its own, of the file system and of the HTTP library
        raise UserError(
            f'{file} of {name} could not be downloaded from the Hugging Face Hub '
            f'({reason_of(error)}): check the name and the network, or give a local folder'
        ) from error


def upload(folder: str | os.PathLike, name: str) -> str:
    """Upload a folder as a model, which is made if it does not exist, with one commit.

    Args:
        folder: The folder.
        name: The model, OWNER/NAME.

    Returns:
        The model's address.

    Raises:
        UserError: The package is not installed, nobody is logged in, or there is no network.
    """
    check_hub_id(name)
    check_hub_package()
    from huggingface_hub import HfApi

    try:
        api = HfApi(library_name='mmsb')
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message='Upload with mmsb')
    except Exception as error:
        raise UserError(
            f'{folder} is written, but could not be uploaded to {name} ({reason_of(error)}): '
            f'log in (hf auth login), check the network, then: hf upload {name} {folder}'
        ) from error
    return str(address)
