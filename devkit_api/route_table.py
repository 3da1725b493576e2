"""Every address of the devkit: the one list of all domains' routes."""

from __future__ import annotations

from devkit_api.apidocs.routes import ROUTES as REFERENCE_ROUTES
from devkit_api.catalogs.control.routes import ROUTES as CONTROL_ROUTES
from devkit_api.catalogs.routes import ROUTES as CATALOG_ROUTES
from devkit_api.catalogs.views.routes import ROUTES as VIEW_ROUTES
from devkit_api.execution.cluster.routes import ROUTES as CLUSTER_ROUTES
from devkit_api.local_data.routes import ROUTES as LOCAL_DATA_ROUTES
from devkit_api.modules.publish.routes import ROUTES as PUBLISH_ROUTES
from devkit_api.modules.routes import ROUTES as MODULE_ROUTES
from devkit_api.objects.input_routes import ROUTES as INPUT_ROUTES
from devkit_api.objects.routes import ROUTES as OBJECT_ROUTES
from devkit_api.objects.uploads.routes import ROUTES as PART_UPLOAD_ROUTES
from devkit_api.routing import Route
from devkit_api.runs.artifact_routes import ROUTES as ARTIFACT_ROUTES
from devkit_api.runs.link_routes import ROUTES as LINK_ROUTES
from devkit_api.runs.preview import ROUTES as PREVIEW_ROUTES
from devkit_api.runs.routes import ROUTES as RUN_ROUTES
from devkit_api.security.routes import ROUTES as SESSION_ROUTES
from devkit_api.system.routes import ROUTES as SYSTEM_ROUTES


def all_routes() -> list[Route]:
    """Every address there is, in the order in which the API reference shows them."""
    routes = [*SYSTEM_ROUTES, *SESSION_ROUTES, *MODULE_ROUTES, *RUN_ROUTES, *OBJECT_ROUTES, *CATALOG_ROUTES]
    routes += [*PREVIEW_ROUTES, *LOCAL_DATA_ROUTES, *PUBLISH_ROUTES, *INPUT_ROUTES]
    routes += [*PART_UPLOAD_ROUTES, *ARTIFACT_ROUTES, *LINK_ROUTES]
    routes += [*CONTROL_ROUTES, *VIEW_ROUTES, *CLUSTER_ROUTES]
    return [*routes, *REFERENCE_ROUTES]
