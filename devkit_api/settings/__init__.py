"""Every setting of the devkit: variable, default, check and help text; a file per subject, importable from here.

Nothing else in the package reads the environment. `load_settings` reports all wrong values at once, so that a
first start needs one round of fixing and not one per mistake.
"""

from devkit_api.settings.declare import PREFIX, SettingInfo
from devkit_api.settings.loading import load_settings, unknown_variables
from devkit_api.settings.model import LOOPBACK_HOSTS, Settings, setting_infos
from devkit_api.settings.problems import Problem, SettingsError
from devkit_api.settings.values import DataRoot, RateLimit

__all__ = [
    "LOOPBACK_HOSTS",
    "PREFIX",
    "DataRoot",
    "Problem",
    "RateLimit",
    "SettingInfo",
    "Settings",
    "SettingsError",
    "load_settings",
    "setting_infos",
    "unknown_variables",
]
