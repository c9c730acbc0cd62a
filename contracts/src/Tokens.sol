// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title Tokens
/// @notice Tokens in and out. What arrives is measured, so a token that keeps a fee cannot be booked for more than came.
abstract contract Tokens is ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @dev Takes `amount` from the sender and returns what arrived. Its callers are not reentrant.
    function _pull(address token, uint256 amount) internal returns (uint256 arrived) {
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        return IERC20(token).balanceOf(address(this)) - before;
    }

    function _push(address token, address to, uint256 amount) internal {
        IERC20(token).safeTransfer(to, amount);
    }
}
