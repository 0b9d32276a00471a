"""Reading the text of a config as data: nothing in it is run."""

import ast


def recorded_config(meta) -> dict:
    """Return the settings in the config's text that mmengine writes into a checkpoint's ``meta``.

    Args:
        meta: ``checkpoint['meta']``, of any type. mmengine writes ``cfg``, mmcv 1 ``config``.

    Returns:
        The top-level settings. What is neither a literal nor a ``dict(...)`` of such is ``...``.
        Empty if there is no text, or it is no Python.
    """
    text = (meta.get('cfg') or meta.get('config')) if isinstance(meta, dict) else None
    if not isinstance(text, str) or len(text) > 1_000_000:
        return {}
    try:
        return {
            node.targets[0].id: _value(node.value)
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return {}


def _value(node: ast.expr):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        given = [_value(arg) for arg in node.args]
        found = given[0] if given and isinstance(given[0], dict) else {}
        return {**found, **{item.arg: _value(item.value) for item in node.keywords if item.arg}}
    if isinstance(node, ast.Dict):
        return {_value(k): _value(v) for k, v in zip(node.keys, node.values, strict=True) if k}
    if isinstance(node, ast.List | ast.Tuple):
        items = map(_value, node.elts)
        return list(items) if isinstance(node, ast.List) else tuple(items)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...
