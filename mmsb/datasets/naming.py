"""Errors in a data set's pipeline that name the file."""

from mmengine.dataset import Compose

from mmsb.utils.errors import UserError, reason_of


class NamingPipeline(Compose):
    """A data set's pipeline, with errors that name the image they come from.

    Args:
        transforms: The built transforms.
    """

    def __init__(self, transforms: list):
        super().__init__(None)
        self.transforms = transforms

    def __call__(self, data: dict) -> dict | None:
        """Apply the transforms in turn.

        Raises:
            UserError: A transform failed.
        """
        path = data.get('img_path') if isinstance(data, dict) else None
        for transform in self.transforms:
            try:
                data = transform(data)
            except UserError:
                raise
            except Exception as error:  # transforms of the toolboxes and the user's own raise any
                if path is None:
                    raise
                raise UserError(
                    f'image {path} cannot be used: {type(transform).__name__} failed with '
                    f'{reason_of(error)}; repair or remove it or its annotation'
                ) from error
            if data is None:
                return None
        return data
