"""A node data provider for Model Explorer, which imports the module of this name."""

from __future__ import annotations

from typing import Any, ClassVar

from qinspect.errors import QinspectError, require_extra
from qinspect.measure.node_data import overlay

try:
    from model_explorer import (
        GetConfigEditorsResult,
        NodeDataProvider,
        NodeDataProviderFilter,
        NodeDataProviderMetadata,
        NodeDataProviderResult,
    )
    from model_explorer.config_editor import SlideToggleConfigEditor, TextInputConfigEditor
    from model_explorer.node_data_builder import GradientItem, GraphNodeData, NodeDataResult
except ImportError:
    raise require_extra("ai-edge-model-explorer", "viewer", "the viewer's extension") from None


class LayersOfQuantizedFile(NodeDataProvider):  # type: ignore[misc, unused-ignore]
    """Errors and ranges of the layers of the file that is shown, against its float file."""

    metadata: ClassVar[NodeDataProviderMetadata] = NodeDataProviderMetadata(
        id="qinspect", name="Quantization error (qinspect)",
        description="Error, clipping and range use of each layer against the float file.",
        icon="troubleshoot", filter=NodeDataProviderFilter(modelFileExts=["tflite"]))

    def get_config_editors(self, provider_id: str) -> GetConfigEditorsResult:
        """What the viewer asks before a run."""
        del provider_id
        return GetConfigEditorsResult(configEditors=[
            TextInputConfigEditor(id="float", label="Float file (.tflite)", required=True),
            TextInputConfigEditor(id="data", label="Examples (.npz, .npy, .csv, a folder)",
                                  required=True),
            SlideToggleConfigEditor(id="costs", defaultValue=False,
                                    label="Cost of each layer as well; needs labels, takes longer"),
        ])

    def run(self, provider_id: str, model_path: str, graph_id: str,
            config_values: dict[str, Any], graph: Any = None) -> NodeDataProviderResult:
        """Measure the file, and give the viewer one result a quantity; or say why not."""
        del provider_id, graph
        try:
            found = overlay({"float": config_values["float"], "shown": model_path},
                            config_values["data"], costs=bool(config_values.get("costs")))
        except KeyError as missing:
            return NodeDataProviderResult(error=f"{missing.args[0]} is not given.")
        except QinspectError as error:
            return NodeDataProviderResult(error=str(error))
        made = [_graph_data(data[graph_id]) for data in found.node_data().values()
                if graph_id in data]
        other = f"graph {graph_id!r} is not the main one of the file."
        return NodeDataProviderResult(result=made, error="" if made else other)


def _graph_data(data: dict[str, Any]) -> GraphNodeData:
    return GraphNodeData(
        {node: NodeDataResult(**value) for node, value in data["results"].items()},
        name=data["name"], gradient=[GradientItem(**stop) for stop in data["gradient"]])
