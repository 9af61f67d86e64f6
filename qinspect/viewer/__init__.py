"""An extension of the graph viewer: ``model-explorer int8.tflite --extensions=qinspect.viewer``."""
