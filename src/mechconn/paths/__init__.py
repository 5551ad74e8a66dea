"""Curves in weight space: linear, polygonal and Bezier paths, their fits, and the networks on them."""

from mechconn.paths._curves import BezierPath as BezierPath
from mechconn.paths._curves import LinearPath as LinearPath
from mechconn.paths._curves import PolygonalPath as PolygonalPath
from mechconn.paths._curves import WeightedPath as WeightedPath
from mechconn.paths._curves import path_grid as path_grid
from mechconn.paths._fit_path import FittedPath as FittedPath
from mechconn.paths._fit_path import PathObjective as PathObjective
from mechconn.paths._fit_path import draw_t as draw_t
from mechconn.paths._fit_path import fit_path as fit_path
from mechconn.paths._model_at import model_at as model_at
from mechconn.paths._model_at import soup as soup
from mechconn.paths._path import Path as Path
from mechconn.paths._path import check_path as check_path
from mechconn.paths._path_fits import BezierFit as BezierFit
from mechconn.paths._path_fits import PathFit as PathFit
from mechconn.paths._path_fits import PolygonalFit as PolygonalFit
from mechconn.paths._spot import Spot as Spot
from mechconn.paths._spot import refuse_ends as refuse_ends
