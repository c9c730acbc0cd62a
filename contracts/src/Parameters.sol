// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Control} from "./Control.sol";
import {Terms, TermIsZero} from "./Terms.sol";

/// @title Parameters
/// @notice What a newcomer needs to know before it meets a peer: the recipe and where the first peers are. Governance
/// announces another value, and after the delay anyone can apply it.
abstract contract Parameters is Control {
    /// @notice There are `count` bootstrap addresses, and at most 16 are allowed.
    error TooManyAddresses(uint256 count);

    /// @notice The bootstrap address at `index` is empty or longer than 200 bytes.
    error AddressLengthOutOfRange(uint256 index, uint256 length);

    /// @notice These are not the bootstrap addresses that were announced.
    error NotTheAnnouncedAddresses();

    /// @notice Another recipe was announced; it can be applied from `appliesAt` on.
    event RecipeAnnounced(bytes32 indexed recipeHash, uint64 appliesAt);

    /// @notice The swarm has another recipe from now on.
    event RecipeChanged(bytes32 indexed recipeHash);

    /// @notice Other bootstrap addresses were announced; they can be applied from `appliesAt` on.
    event BootstrapAnnounced(string[] bootstrap, uint64 appliesAt);

    /// @notice The swarm has other bootstrap addresses from now on.
    event BootstrapChanged(string[] bootstrap);

    uint256 private constant MAX_ADDRESSES = 16;
    uint256 private constant MAX_ADDRESS_BYTES = 200;

    bytes32 private _recipeHash;
    string[] private _bootstrap;

    constructor(Terms memory terms_) {
        if (terms_.recipeHash == bytes32(0)) revert TermIsZero("recipeHash");
        _requireBounded(terms_.bootstrap);
        _recipeHash = terms_.recipeHash;
        _setBootstrap(terms_.bootstrap);
    }

    /// @notice Announces another recipe, in place of one announced before.
    function announceRecipe(bytes32 recipeHash_) external onlyGovernance {
        if (recipeHash_ == bytes32(0)) revert TermIsZero("recipeHash");
        emit RecipeAnnounced(recipeHash_, _announce(Change.Recipe, recipeHash_));
    }

    /// @notice Applies the announced recipe, once its delay is over.
    function applyRecipe() external {
        _recipeHash = _takeAnnounced(Change.Recipe);
        emit RecipeChanged(_recipeHash);
    }

    /// @notice Announces other bootstrap addresses, in place of some announced before.
    function announceBootstrap(string[] calldata bootstrap_) external onlyGovernance {
        _requireBounded(bootstrap_);
        emit BootstrapAnnounced(bootstrap_, _announce(Change.Bootstrap, _hash(bootstrap_)));
    }

    /// @notice Applies the announced bootstrap addresses, once their delay is over.
    /// @param bootstrap_ The addresses of the event `BootstrapAnnounced`; only their hash was stored.
    function applyBootstrap(string[] calldata bootstrap_) external {
        if (_takeAnnounced(Change.Bootstrap) != _hash(bootstrap_)) revert NotTheAnnouncedAddresses();
        _setBootstrap(bootstrap_);
        emit BootstrapChanged(bootstrap_);
    }

    /// @notice The hash of the swarm's recipe.
    function recipeHash() public view returns (bytes32) {
        return _recipeHash;
    }

    /// @notice Addresses by which a newcomer finds the first peers.
    function bootstrap() public view returns (string[] memory) {
        return _bootstrap;
    }

    function _setBootstrap(string[] memory bootstrap_) private {
        delete _bootstrap;
        for (uint256 i = 0; i < bootstrap_.length; ++i) {
            _bootstrap.push(bootstrap_[i]);
        }
    }

    function _requireBounded(string[] memory bootstrap_) private pure {
        if (bootstrap_.length > MAX_ADDRESSES) revert TooManyAddresses(bootstrap_.length);
        for (uint256 i = 0; i < bootstrap_.length; ++i) {
            uint256 length = bytes(bootstrap_[i]).length;
            if (length == 0 || length > MAX_ADDRESS_BYTES) revert AddressLengthOutOfRange(i, length);
        }
    }

    function _hash(string[] memory bootstrap_) private pure returns (bytes32) {
        return keccak256(abi.encode(bootstrap_));
    }
}
