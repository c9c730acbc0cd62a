// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Terms, TermIsZero} from "./Terms.sol";

/// @title Epochs
/// @notice The swarm's clock. It follows from the genesis and two fixed lengths, so nobody advances it.
abstract contract Epochs {
    uint64 private immutable _genesis;
    uint32 private immutable _roundSeconds;
    uint32 private immutable _epochSeconds;

    constructor(Terms memory terms_) {
        if (terms_.roundSeconds == 0) revert TermIsZero("roundSeconds");
        if (terms_.epochSeconds == 0) revert TermIsZero("epochSeconds");
        _genesis = terms_.genesis;
        _roundSeconds = terms_.roundSeconds;
        _epochSeconds = terms_.epochSeconds;
    }

    /// @notice The start of round 0 and of epoch 0, in unix seconds.
    function genesis() public view returns (uint64) {
        return _genesis;
    }

    /// @notice The length of a round, in seconds.
    function roundSeconds() public view returns (uint32) {
        return _roundSeconds;
    }

    /// @notice The length of an epoch, in seconds.
    function epochSeconds() public view returns (uint32) {
        return _epochSeconds;
    }

    /// @notice The epoch of this moment; before the genesis it is epoch 0 already.
    function currentEpoch() public view returns (uint64) {
        if (block.timestamp < _genesis) return 0;
        return (uint64(block.timestamp) - _genesis) / _epochSeconds;
    }
}
